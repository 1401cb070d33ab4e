// The JSON that a report's page holds.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "runtime/base/error.h"

namespace memwall::test {

inline nlohmann::ordered_json data_of(const std::string& page) {
  constexpr std::string_view kBegin = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(kBegin);
  check(begin != std::string::npos, "the page has no data");
  const size_t first = begin + kBegin.size();
  return nlohmann::ordered_json::parse(page.substr(first, page.find("</script>", first) - first));
}

}  // namespace memwall::test
