// Validation of UTF-8 (RFC 3629; the table is 3-7 of the Unicode standard).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace memwall {

// The first byte of the first ill-formed sequence: a stray continuation, a truncated or overlong
// form, a surrogate, or a code point beyond U+10FFFF.
std::optional<int64_t> find_invalid_utf8(std::span<const std::byte> text);

}  // namespace memwall
