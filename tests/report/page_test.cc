// The page as text: it loads nothing, and data cannot leave their place in it.
#include "runtime/report/page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "tests/report/page_data.h"

namespace memwall::test {
namespace {

using Json = nlohmann::ordered_json;

// Everything in `text` that makes a browser load something from elsewhere.
std::vector<std::string> loads(const std::string& text) {
  const std::regex attribute(R"re(\s(?:src|srcset|href|action|data)\s*=\s*["']?([^"'\s>]+))re",
                             std::regex::icase);
  const std::regex style(R"re((?:url\(\s*["']?|@import\s+["']?)([^"')\s]+))re", std::regex::icase);
  std::vector<std::string> out;
  for (const std::regex& pattern : {attribute, style}) {
    for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
      const std::string target = (*at)[1];
      if (!target.starts_with("data:") && !target.starts_with('#')) out.push_back(target);
    }
  }
  return out;
}

// The markup and styles of a page: what its scripts hold is left out.
std::string without_scripts(const std::string& text) {
  std::string out;
  size_t from = 0;
  for (size_t at; (at = text.find("<script", from)) != std::string::npos;) {
    out += text.substr(from, text.find('>', at) + 1 - from);
    from = std::min(text.find("</script>", at), text.size());
  }
  return out + text.substr(from);
}

TEST(ReportPage, LoadsNothing) {
  const std::string text = page({{"runs", Json::array()}, {"scales", Json::array()}});
  EXPECT_EQ(loads(without_scripts(text)), std::vector<std::string>{});
  // Scripts cannot load either: the page's policy allows what stands in it, and nothing else.
  const size_t policy = text.find("Content-Security-Policy");
  ASSERT_NE(policy, std::string::npos);
  EXPECT_LT(policy, text.find("<script"));
  EXPECT_NE(text.find("content=\"default-src 'none'; script-src 'unsafe-inline'; style-src "
                      "'unsafe-inline'; img-src data:\"",
                      policy),
            std::string::npos);
  for (const char* word : {"fetch(", "XMLHttpRequest", "importScripts", "WebSocket", "import("}) {
    EXPECT_EQ(text.find(word), std::string::npos) << word;
  }
}

TEST(ReportPage, TheSearchForLoadsFindsThem) {
  for (const char* text :
       {"<script src=\"https://a/b.js\">", "<link rel=stylesheet href=b.css>",
        "<style>@import 'c.css';", "<style>p { background: url(d.png) }", "<img SRC='e.png'>"}) {
    EXPECT_EQ(loads(without_scripts(text)).size(), 1u) << text;
  }
  EXPECT_EQ(loads("<a href=\"#loss\"><link href=\"data:,\">").size(), 0u);
}

TEST(ReportPage, HoldsTheLibraryItsLicenseAndItsOwnScripts) {
  const std::string text = page(Json::object());
  for (const char* part : {"Chart.js v3", "Permission is hereby granted", "function wallCard",
                           "prefers-color-scheme: dark", "name=\"viewport\""}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
  for (const char* mark : {"{{licenses}}", "{{style}}", "{{library}}", "{{data}}", "{{scripts}}"}) {
    EXPECT_EQ(text.find(mark), std::string::npos) << mark;
  }
}

TEST(ReportPage, DataStayInTheirPlace) {
  const Json data = {{"a", "</script><script>alert(1)</script>"},
                     {"b", "<!--"},
                     {"c", "{{scripts}} {{data}} {{library}}"},
                     {"d", "\xff\xfe broken"},
                     {"e", "\"quoted\" \\ \n"}};
  const std::string embedded = embedded_json(data);
  EXPECT_EQ(embedded.find('<'), std::string::npos);
  const Json back = data_of(page(data));
  for (const char* key : {"a", "b", "c", "e"}) EXPECT_EQ(back[key], data[key]) << key;
  EXPECT_NE(back["d"].get<std::string>().find("broken"), std::string::npos);
  const auto scripts = [](const std::string& text) {
    size_t count = 0;
    for (size_t at = 0; (at = text.find("<script", at)) != std::string::npos; ++at) ++count;
    return count;
  };
  EXPECT_EQ(scripts(page(data)), scripts(page(Json::object())));
}

}  // namespace
}  // namespace memwall::test
