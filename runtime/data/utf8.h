// Validation of UTF-8 (RFC 3629; the table is 3-7 of the Unicode standard).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace memwall {

// The first byte of the first ill-formed sequence: a stray continuation, a truncated or overlong
// form, a surrogate, or a code point beyond U+10FFFF.
std::optional<int64_t> find_invalid_utf8(std::span<const std::byte> text);
std::optional<int64_t> find_invalid_utf8(std::string_view text);

// Every maximal beginning of a character that does not go on, and every other byte that belongs to
// none, becomes one U+FFFD: Unicode 15, 3.9, "U+FFFD Substitution of Maximal Subparts", which is
// also Python's errors="replace".
std::string replace_invalid_utf8(std::string_view text);

}  // namespace memwall
