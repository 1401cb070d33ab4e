// The small tokenizers in tests/golden/tokenizers, and what the reference implementations make of
// texts (tests/golden/make_tokenizer_golden.py).
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace memwall::test {

inline std::string golden_path(const std::string& name) {
  return std::string(MEMWALL_SOURCE_DIR) + "/tests/golden/tokenizers/" + name;
}

inline std::string from_hex(const std::string& digits) {
  std::string out;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    out += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return out;
}

struct GoldenText {
  std::string text;
  std::vector<int32_t> ids;
  std::string decoded;
};

inline nlohmann::json golden_json() {
  std::ifstream file(golden_path("golden.json"));
  return nlohmann::json::parse(file);
}

inline std::vector<GoldenText> golden_texts(const std::string& tokenizer) {
  std::vector<GoldenText> out;
  const nlohmann::json golden = golden_json();
  for (const auto& entry : golden.at(tokenizer)) {
    out.push_back({from_hex(entry["text"]), entry["ids"], from_hex(entry["decoded"])});
  }
  return out;
}

// FNV-1a, 64 bits, of the ids as little-endian uint32.
inline std::string fnv1a(const std::vector<int32_t>& ids) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<uint32_t>(id) >> shift & 0xFFu)) * 0x100000001B3u;
    }
  }
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace memwall::test
