#include "runtime/data/utf8.h"

#include <cstring>

namespace memwall {
namespace {

// Length of the well-formed sequence at the start of `s`, or 0.
size_t sequence_length(std::span<const std::byte> s) {
  const auto at = [&](size_t i) { return std::to_integer<unsigned>(s[i]); };
  const auto continues = [&](size_t i) { return (at(i) & 0xC0u) == 0x80u; };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  const size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (length == 0 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!continues(i)) return 0;
  }
  const unsigned second = at(1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool surrogate = lead == 0xED && second >= 0xA0;
  const bool beyond = lead == 0xF4 && second >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

}  // namespace

std::optional<int64_t> find_invalid_utf8(std::span<const std::byte> text) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word = 0;
    if (text.size() - i >= sizeof(word)) {
      std::memcpy(&word, text.data() + i, sizeof(word));
      if ((word & kHighBits) == 0) {  // eight ASCII characters
        i += sizeof(word);
        continue;
      }
    }
    const size_t length = sequence_length(text.subspan(i));
    if (length == 0) return static_cast<int64_t>(i);
    i += length;
  }
  return std::nullopt;
}

}  // namespace memwall
