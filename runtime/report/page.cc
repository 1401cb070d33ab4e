#include "runtime/report/page.h"

#include <array>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/report/assets.h"

namespace memwall {

std::string embedded_json(const nlohmann::ordered_json& data) {
  const std::string text =
      data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string out;
  for (const char c : text) {
    // Only strings of JSON hold a '<'.
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string page(const nlohmann::ordered_json& data) {
  std::string scripts;
  for (std::string_view script :
       {assets::kScriptFormat, assets::kScriptCharts, assets::kScriptRun, assets::kScriptCompare,
        assets::kScriptWall, assets::kScriptMain}) {
    scripts += script;
  }
  const std::string json = embedded_json(data);
  const std::array<std::pair<std::string_view, std::string_view>, 5> parts = {{
      {"{{licenses}}", assets::kLicenses},
      {"{{style}}", assets::kPageStyle},
      {"{{library}}", assets::kChartLibrary},
      {"{{data}}", json},
      {"{{scripts}}", scripts},
  }};
  std::string out;
  std::string_view rest = assets::kPageTemplate;
  for (const auto& [mark, text] : parts) {
    const size_t at = rest.find(mark);
    check(at != std::string_view::npos, "a mark is missing from page.html", std::string(mark));
    out += rest.substr(0, at);
    out += text;
    rest.remove_prefix(at + mark.size());
  }
  out += rest;
  return out;
}

}  // namespace memwall
