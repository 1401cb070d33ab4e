#include "runtime/data/utf8.h"

#include <cstring>

namespace memwall {
namespace {

struct Sequence {
  size_t length = 1;  // of the character, or of the most of it that is there
  bool complete = true;
};

// What is at the start of `s`, which is not empty.
Sequence sequence_at(std::span<const std::byte> s) {
  const auto at = [&](size_t i) { return std::to_integer<unsigned>(s[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return {};
  const size_t due = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (due == 0) return {1, false};
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  const unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < due; ++i) {
    const bool continues =
        i < s.size() && (i == 1 ? at(i) >= least && at(i) <= most : (at(i) & 0xC0u) == 0x80u);
    if (!continues) return {i, false};
  }
  return {due, true};
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
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
    const Sequence sequence = sequence_at(text.subspan(i));
    if (!sequence.complete) return static_cast<int64_t>(i);
    i += sequence.length;
  }
  return std::nullopt;
}

std::optional<int64_t> find_invalid_utf8(std::string_view text) {
  return find_invalid_utf8(bytes_of(text));
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  while (const std::optional<int64_t> at = find_invalid_utf8(text)) {
    out += text.substr(0, static_cast<size_t>(*at));
    text.remove_prefix(static_cast<size_t>(*at));
    out += "\xEF\xBF\xBD";
    text.remove_prefix(sequence_at(bytes_of(text)).length);
  }
  return out += text;
}

}  // namespace memwall
