// XXH3-64 of bytes, for checksums and for comparing plans across ranks.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace memwall {

inline uint64_t hash_bytes(const void* data, size_t bytes, uint64_t seed = 0) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}
inline uint64_t hash_text(std::string_view text) {
  return hash_bytes(text.data(), text.size());
}

inline std::string hash_hex(uint64_t hash) {  // sixteen hexadecimal digits
  char buffer[17];
  std::snprintf(buffer, sizeof(buffer), "%016llx", static_cast<unsigned long long>(hash));
  return buffer;
}

}  // namespace memwall
