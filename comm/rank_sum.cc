#include "comm/rank_sum.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace memwall {

namespace {

// As large as AVX2's, on wider machines too: 64 bytes gain nothing there, and where they are not
// the machine's own g++ 12 takes them through memory.
constexpr int kVectorBytes = 32;
using Floats [[gnu::vector_size(kVectorBytes)]] = float;
using Doubles [[gnu::vector_size(kVectorBytes)]] = double;
using Words [[gnu::vector_size(kVectorBytes)]] = uint32_t;
using SignedWords [[gnu::vector_size(kVectorBytes)]] = int32_t;
using Halves [[gnu::vector_size(kVectorBytes / 2)]] = uint16_t;

// How a pack of one type becomes the vector it is added in, and back, rounded to nearest even.
struct F64Pack {
  using Element = double;
  using Sum = Doubles;
  static void widen(const double* from, Doubles& to) { std::memcpy(&to, from, sizeof(to)); }
  static void narrow(const Doubles& from, double* to) { std::memcpy(to, &from, sizeof(from)); }
};

struct F32Pack {
  using Element = float;
  using Sum = Floats;
  static void widen(const float* from, Floats& to) { std::memcpy(&to, from, sizeof(to)); }
  static void narrow(const Floats& from, float* to) { std::memcpy(to, &from, sizeof(from)); }
};

struct BF16Pack {
  using Element = uint16_t;
  using Sum = Floats;
  static void widen(const uint16_t* from, Floats& to) {
    Halves bits;
    std::memcpy(&bits, from, sizeof(bits));
    const Words words = __builtin_convertvector(bits, Words) << 16;
    std::memcpy(&to, &words, sizeof(to));
  }
  // Beyond the largest finite value to infinity; NaN stays NaN, quiet.
  static void narrow(const Floats& from, uint16_t* to) {
    Words bits;
    std::memcpy(&bits, &from, sizeof(bits));
    const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const auto magnitude =
        reinterpret_cast<SignedWords>(bits & 0x7fffffffu);  // AVX2 compares these
    const Words words = (magnitude > 0x7f800000 ? bits | 0x400000u : rounded) >> 16;
    const Halves halves = __builtin_convertvector(words, Halves);
    std::memcpy(to, &halves, sizeof(halves));
  }
};

// g++ 12 converts vectors of _Float16 one by one, at a fortieth of this.
struct F16Pack {
  using Element = _Float16;
  using Sum = Floats;
  static void widen(const _Float16* from, Floats& to) {
#ifdef __F16C__
    to = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    for (int i = 0; i < kVectorBytes / 4; ++i) to[i] = static_cast<float>(from[i]);
#endif
  }
  static void narrow(const Floats& from, _Float16* to) {
#ifdef __F16C__
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(from, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < kVectorBytes / 4; ++i) to[i] = static_cast<_Float16>(from[i]);
#endif
  }
};

template <class Pack>
constexpr int64_t kLanes = sizeof(typename Pack::Sum) / (sizeof(typename Pack::Sum{}[0]));

// Element i of all terms, for kUnroll packs: each term is read once, and all of them before `out`
// is written, so that `out` may be a term.
template <class Pack, int kUnroll>
void sum_packs(std::span<const void* const> terms, int64_t i, typename Pack::Element* out) {
  using Element = typename Pack::Element;
  std::array<typename Pack::Sum, kUnroll> sums;
  for (int u = 0; u < kUnroll; ++u) {
    Pack::widen(static_cast<const Element*>(terms[0]) + i + u * kLanes<Pack>, sums[u]);
  }
  for (const void* term : terms.subspan(1)) {
    for (int u = 0; u < kUnroll; ++u) {
      typename Pack::Sum addend;
      Pack::widen(static_cast<const Element*>(term) + i + u * kLanes<Pack>, addend);
      sums[u] += addend;
    }
  }
  for (int u = 0; u < kUnroll; ++u) Pack::narrow(sums[u], out + u * kLanes<Pack>);
}

template <class Pack>
void sum_terms(std::span<const void* const> terms, void* out, int64_t count) {
  using Element = typename Pack::Element;
  constexpr int kUnroll = 4;
  auto* const result = static_cast<Element*>(out);
  int64_t i = 0;
  for (; i + kUnroll * kLanes<Pack> <= count; i += kUnroll * kLanes<Pack>) {
    sum_packs<Pack, kUnroll>(terms, i, result + i);
  }
  // The rest, one pack at a time, filled up with zeros: the same arithmetic.
  for (; i < count; i += kLanes<Pack>) {
    const auto bytes = sizeof(Element) * static_cast<size_t>(std::min(kLanes<Pack>, count - i));
    std::array<Element, static_cast<size_t>(kLanes<Pack>)> padded{};
    typename Pack::Sum sum{}, addend{};
    for (size_t t = 0; t < terms.size(); ++t) {
      std::memcpy(padded.data(), static_cast<const Element*>(terms[t]) + i, bytes);
      Pack::widen(padded.data(), addend);
      sum = t == 0 ? addend : sum + addend;
    }
    Pack::narrow(sum, padded.data());
    std::memcpy(result + i, padded.data(), bytes);
  }
}

}  // namespace

void sum_in_order(std::span<const void* const> terms, void* out, int64_t count, DType dtype) {
  switch (dtype) {
    case DType::kF16: return sum_terms<F16Pack>(terms, out, count);
    case DType::kBF16: return sum_terms<BF16Pack>(terms, out, count);
    case DType::kF32: return sum_terms<F32Pack>(terms, out, count);
    case DType::kF64: return sum_terms<F64Pack>(terms, out, count);
    case DType::kI32:
    case DType::kI64: break;
  }
  throw InternalError("no sum over ranks of " + std::string(name_of(dtype)));
}

}  // namespace memwall
