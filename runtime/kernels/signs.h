// Random signs z of a unit's elements, for Hutchinson's estimate z * (H z) of a Hessian's diagonal.
//
// The sign of element e (row-major, without padding) of the tensor with Segment::index p, in draw
// d, is one bit of a counter-based generator (base/rng.h):
//
//   -1 where (random_block(seed, p, e / 128, d)[e % 128 / 32] >> (e % 32)) & 1, else +1
//
// It depends on nothing else: every rank makes the same z, which is neither stored nor sent. Draws
// count from 1, one a probe and step: Scalar::kDraw.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/random.h"

namespace memwall {

// Which signs. `tensor` is Segment::index; none in padding, where z is 0.
struct SignSource {
  uint64_t seed;
  uint32_t draw;
  std::optional<uint32_t> tensor;
};

inline constexpr int64_t kSignsDrawn = 32 * kBitsDrawn;
static_assert(kTile % kSignsDrawn == 0);

template <class T>
using SignBits = std::conditional_t<sizeof(T) == 2, uint16_t,
                                    std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

// z[i] = magnitude times the sign of element first + i; `first` is a multiple of kSignsDrawn.
template <class T>
inline void draw_signs(const SignSource& source, int64_t first, T magnitude, T (&z)[kSignsDrawn]) {
  if (!source.tensor) {
    std::memset(z, 0, sizeof(z));
    return;
  }
  using Bits = SignBits<T>;
  constexpr int kSignBit = 8 * static_cast<int>(sizeof(Bits)) - 1;
  // As many lanes as have a bit of their own.
  constexpr int kCount = std::min(kRegisterBytes / static_cast<int>(sizeof(Bits)), kSignBit + 1);
  using Register = Vector<Bits, kCount>;
  Register own_bit;
  for (int i = 0; i < kCount; ++i) own_bit[i] = static_cast<Bits>(Bits{1} << i);
  const Register plus = Register{} + bit_pattern<Bits>(magnitude);
  const Register minus = plus ^ static_cast<Bits>(Bits{1} << kSignBit);

  uint32_t words[kBitsDrawn];
  draw_blocks(source.seed, *source.tensor, static_cast<uint64_t>(first) / 128, words, source.draw);
  for (int w = 0; w < kBitsDrawn; ++w) {
    for (int lane = 0; lane < 32; lane += kCount) {
      const Bits drawn = static_cast<Bits>(words[w] >> lane);
      const Register signs = ((Register{} + drawn) & own_bit) != 0 ? minus : plus;
      std::memcpy(z + 32 * w + lane, &signs, sizeof(signs));
    }
  }
}

// f(first, count, z) for the signs of tile `row` of a run that begins with its tensor.
template <class T, class F>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline void each_signs(const SignSource& source,
                                                                  int64_t row, int64_t count,
                                                                  T magnitude, const F& f) {
  const int64_t end = std::min(count, (row + 1) * kTile);
  for (int64_t first = row * kTile; first < end; first += kSignsDrawn) {
    alignas(64) T z[kSignsDrawn];
    draw_signs(source, first, magnitude, z);
    f(first, std::min(kSignsDrawn, end - first), z);
  }
}

// z * magnitude, of a run of a whole unit.
template <class T>
struct Sign {
  T* z;
  SignSource source;
  T magnitude;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    team.lead([&] {
      each_signs(source, row, count, magnitude, [&](int64_t first, int64_t drawn, const T* signs) {
        std::memcpy(z + first, signs, static_cast<size_t>(drawn) * sizeof(T));
      });
    });
  }
};

// y = z x, of a run of a whole unit.
template <class Out, class T, class C>
struct SignProduct {
  Input<T, C> x;
  Output<Out, C> y;
  SignSource source;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    each_signs(source, row, count, C{1}, [&](int64_t first, int64_t drawn, const C* signs) {
      const Input<C> z{signs};
      const auto from = x.from(first);
      const auto to = y.from(first);
      team.template each<4 * kLanes>(0, drawn, [&](auto at) { to.store(at, z(at) * from(at)); });
    });
  }
};

}  // namespace memwall
