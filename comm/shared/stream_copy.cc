#include "comm/shared/stream_copy.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace memwall {

namespace {

constexpr int64_t kLine = 64;

#ifdef __SSE2__

void stream_line(std::byte* to, const std::byte* from) {
  for (int64_t at = 0; at < kLine; at += 16) {
    const __m128i data = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at), data);
  }
}

// `to` is aligned to whole lines. Four places at a time, as the processor prefetches within pages
// only.
void stream_lines(std::byte* to, const std::byte* from, int64_t bytes) {
  constexpr int64_t kPlaces = 4;
  const int64_t stretch = bytes / kPlaces / kLine * kLine;
  for (int64_t at = 0; at < stretch; at += kLine) {
    for (int64_t place = 0; place < kPlaces; ++place) {
      stream_line(to + place * stretch + at, from + place * stretch + at);
    }
  }
  for (int64_t at = kPlaces * stretch; at < bytes; at += kLine) stream_line(to + at, from + at);
  _mm_sfence();  // before any flag that says the copy is done
}

#else

void stream_lines(std::byte* to, const std::byte* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

#endif

}  // namespace

void stream_copy(void* to, const void* from, int64_t bytes) {
  if (bytes <= 0) return;
  auto* const target = static_cast<std::byte*>(to);
  const auto* const source = static_cast<const std::byte*>(from);
  const int64_t beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to)) % kLine;
  const int64_t head = std::min(bytes, (kLine - beyond) % kLine);
  const int64_t body = (bytes - head) / kLine * kLine;
  std::memcpy(target, source, static_cast<size_t>(head));
  stream_lines(target + head, source + head, body);
  std::memcpy(target + head + body, source + head + body, static_cast<size_t>(bytes - head - body));
}

}  // namespace memwall
