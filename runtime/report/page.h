// The one-file page: template, style, scripts, Chart.js and one JSON object of data.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace memwall {

// `data` as it may stand in a <script> of any HTML page: no '<' is left in it, and bytes that are
// no UTF-8 are replaced.
std::string embedded_json(const nlohmann::ordered_json& data);

// The whole page. It loads nothing: its policy forbids it to.
std::string page(const nlohmann::ordered_json& data);

}  // namespace memwall
