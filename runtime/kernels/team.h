// A team executes a kernel. A kernel is a struct of views with
//
//   template <class Team> void operator()(Team& team, int64_t row) const;
//
// and calls, with f(at) a function of a place `at` in the row:
//
//   team.each(begin, end, f)   f everywhere, in any order
//   team.sum(count, f)         the sum of f(at) over [0, count)
//   team.max(count, f)         the largest; of dual numbers the value alone, for it only shifts
//   what
//                              an exponential sees, and its tangent would cancel
//   team.only(index, f)        f at one place, after what the team did there before; what f returns
//                              is good for another `only` of that place
//   team.lead(f)               f() once
//   team.once(f)               what f() gives, for all of the team
//
// `at` is only good for handing to views, which give and take whole packs. The arithmetic between
// sees values on which + - * / fma sqrt exp are defined; a dual number (dual.h) or a CUDA thread's
// scalar serves as well as a pack. A kernel takes its views from a policy, `ValueViews` or
// `DualViews`.
//
// The team of the CPU is one thread. Element i of a sum goes to lane i % 16 of accumulator
// (i / 16) % 4; accumulators are added as (0 + 1) + (2 + 3), then lanes in the tree of
// combine_lanes. So the bits depend on the index in the row alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "runtime/kernels/pack.h"

namespace memwall {

// The places [first, first + N).
template <int N>
struct Whole {
  static constexpr int kSize = N;
  int64_t first;
};

// The places [first, first + count), count < 16.
struct Part {
  static constexpr int kSize = kLanes;
  int64_t first;
  int count;
};

// A buffer of S that is read, and computed with, as C.
template <class S, class C = S>
struct Input {
  const S* data;

  template <int N>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Pack<C, N> operator()(Whole<N> at) const {
    return load<C, N>(data + at.first);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Pack<C> operator()(Part at) const {
    return load_first<C, kLanes>(data + at.first, at.count);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE C scalar(int64_t i) const {
    return static_cast<C>(data[i]);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Input from(int64_t offset) const {
    return {data + offset};
  }
};

// A buffer of S that results are written to, or added to.
template <class S, class C = S>
struct Output {
  S* data;
  bool accumulate = false;

  template <int N>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE void store(Whole<N> at,
                                                        std::type_identity_t<Pack<C, N>> x) const {
    if (accumulate) x = load<C, N>(data + at.first) + x;
    memwall::store(data + at.first, x);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE void store(Part at, Pack<C> x) const {
    if (accumulate) x = load_first<C, kLanes>(data + at.first, at.count) + x;
    store_first(data + at.first, x, at.count);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE void set(int64_t i, C x) const {
    data[i] = static_cast<S>(x);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Output from(int64_t offset) const {
    return {data + offset, accumulate};
  }
  // To read again what was stored.
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Input<S, C> stored() const { return {data}; }
};

// The views of a kernel that computes values: one buffer each.
struct ValueViews {
  template <class S, class C>
  using Input = memwall::Input<S, C>;
  template <class S, class C>
  using Output = memwall::Output<S, C>;
};

template <class Views, class S, class C = S>
using InputOf = typename Views::template Input<S, C>;
template <class Views, class S, class C = S>
using OutputOf = typename Views::template Output<S, C>;

struct CpuTeam {
  // `Wide` lanes at once where there are as many: for chains that are long and independent.
  template <int Wide = kLanes, class F>
  [[gnu::always_inline]] static void each(int64_t begin, int64_t end, const F& f) {
    int64_t i = begin;
    for (; i + Wide <= end; i += Wide) f(Whole<Wide>{i});
    if constexpr (Wide > kLanes) {
      for (; i + kLanes <= end; i += kLanes) f(Whole<kLanes>{i});
    }
    if (i < end) f(Part{i, static_cast<int>(end - i)});
  }

  template <class F>
  [[gnu::always_inline]] static auto sum(int64_t count, const F& f) {
    using P = decltype(f(Whole<kLanes>{0}));
    return reduce<P>(count, f, Plus{}, typename P::Scalar{0});
  }

  template <class F>
  [[gnu::always_inline]] static auto max(int64_t count, const F& f) {
    const auto value = [&](auto at) { return value_of(f(at)); };
    using P = decltype(value(Whole<kLanes>{0}));
    using T = typename P::Scalar;
    return reduce<P>(count, value, Larger{}, -std::numeric_limits<T>::infinity());
  }

  template <class F>
  [[gnu::always_inline]] static auto only(int64_t index, const F& f) {
    return f(Part{index, 1});
  }

  template <class F>
  [[gnu::always_inline]] static void lead(const F& f) {
    f();
  }

  template <class F>
  [[gnu::always_inline]] static auto once(const F& f) {
    return f();
  }

 private:
  template <class P, class F, class Combine>
  [[gnu::always_inline]] static auto reduce(int64_t count, const F& f, const Combine& combine,
                                            const typename P::Scalar& neutral) {
    P a = neutral, b = neutral, c = neutral, d = neutral;
    int64_t i = 0;
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
      a = combine_packs(combine, a, f(Whole<kLanes>{i}));
      b = combine_packs(combine, b, f(Whole<kLanes>{i + kLanes}));
      c = combine_packs(combine, c, f(Whole<kLanes>{i + 2 * kLanes}));
      d = combine_packs(combine, d, f(Whole<kLanes>{i + 3 * kLanes}));
    }
    const auto finish = [&](P& accumulator, int64_t first) {
      const int64_t left = count - first;
      if (left >= kLanes) {
        accumulator = combine_packs(combine, accumulator, f(Whole<kLanes>{first}));
      } else if (left > 0) {
        const int lanes = static_cast<int>(left);
        const auto x = first_lanes(f(Part{first, lanes}), lanes, neutral);
        accumulator = combine_packs(combine, accumulator, x);
      }
    };
    finish(a, i);
    finish(b, i + kLanes);
    finish(c, i + 2 * kLanes);
    finish(d, i + 3 * kLanes);
    const P all =
        combine_packs(combine, combine_packs(combine, a, b), combine_packs(combine, c, d));
    return combine_lanes(all, combine);
  }
};

}  // namespace memwall
