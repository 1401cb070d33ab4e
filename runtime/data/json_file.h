// Small JSON files. Private to this room: it brings nlohmann's header.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace memwall {

// InputError where the file is missing, or holds anything but one JSON object.
nlohmann::json read_json_file(const std::string& path);

}  // namespace memwall
