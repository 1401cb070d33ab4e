#include "runtime/cli/utf8_stream.h"

#include <optional>
#include <span>
#include <utility>

#include "runtime/data/utf8.h"

namespace memwall {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr size_t kLongest = 4;                             // bytes of a character

std::optional<int64_t> first_invalid(std::string_view text) {
  return find_invalid_utf8(std::as_bytes(std::span(text.data(), text.size())));
}

// Whether some continuation bytes would complete `text`. The second byte of a few characters is
// restricted from below or from above, never from both sides, so that one of the extremes fits.
bool begins_character(std::string_view text) {
  for (const char continuation : {'\x80', '\xBF'}) {
    std::string completed(text);
    while (completed.size() < kLongest) {
      completed += continuation;
      if (!first_invalid(completed)) return true;
    }
  }
  return false;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string whole;
  while (const std::optional<int64_t> at = first_invalid(pending_)) {
    whole += pending_.substr(0, static_cast<size_t>(*at));
    pending_.erase(0, static_cast<size_t>(*at));
    if (begins_character(pending_)) return whole;
    whole += kReplacement;
    pending_.erase(0, 1);
  }
  return whole + std::exchange(pending_, {});
}

std::string Utf8Stream::finish() {
  return std::string(std::exchange(pending_, {}).empty() ? "" : kReplacement);
}

}  // namespace memwall
