// Dual numbers: a value and its tangent, the derivative of the value along one direction of the
// inputs (forward mode). A kernel whose views are of `DualViews` computes results and their
// tangents from the text that computes results alone; what it does twice is a second derivative.
//
// The value half of every operation is the plain operation, so that it has the plain result's bits.
#pragma once

#include <cmath>
#include <concepts>
#include <type_traits>

#include "runtime/kernels/team.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {

// V: a pack or a scalar. Functions are defined on a Dual<V> where they are on V.
template <class V>
struct Dual;

template <class>
inline constexpr bool kIsDual = false;
template <class V>
inline constexpr bool kIsDual<Dual<V>> = true;

// What a Dual<V> takes for a constant: a V or a scalar that stands for one.
template <class A, class V>
concept ConstantFor = !kIsDual<A> && std::convertible_to<A, V>;

template <class V>
struct ScalarOf {
  using Type = V;
};
template <class T, int N>
struct ScalarOf<Pack<T, N>> {
  using Type = T;
};

template <class V>
struct Dual {
  using Scalar = Dual<typename ScalarOf<V>::Type>;

  V v, d;

  Dual() = default;
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Dual(const V& value, const V& tangent)
      : v(value), d(tangent) {}
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Dual(const A& constant)  // NOLINT: its tangent is zero
      : v(constant), d(0) {}
  template <class A>
  requires(!std::same_as<A, V> && std::convertible_to<A, V>)
      [[gnu::always_inline]] MEMWALL_HOST_DEVICE
      Dual(const Dual<A>& scalar)  // NOLINT: it stands for all lanes
      : v(scalar.v), d(scalar.d) {}

  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator+(const Dual& a, const Dual& b) {
    return {a.v + b.v, a.d + b.d};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator-(const Dual& a, const Dual& b) {
    return {a.v - b.v, a.d - b.d};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator*(const Dual& a, const Dual& b) {
    return {a.v * b.v, fused(a.d, b.v, a.v * b.d)};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator/(const Dual& a, const Dual& b) {
    const V ratio = a.v / b.v;
    return {ratio, fused(-ratio, b.d, a.d) / b.v};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator-(const Dual& a) {
    return {-a.v, -a.d};
  }

  // With constants.
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator+(const Dual& a, const A& b) {
    return {a.v + b, a.d};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator+(const A& a, const Dual& b) {
    return {a + b.v, b.d};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator-(const Dual& a, const A& b) {
    return {a.v - b, a.d};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator-(const A& a, const Dual& b) {
    return {a - b.v, -b.d};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator*(const Dual& a, const A& b) {
    return {a.v * b, a.d * b};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator*(const A& a, const Dual& b) {
    return {a * b.v, a * b.d};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator/(const Dual& a, const A& b) {
    return {a.v / b, a.d / b};
  }
  template <ConstantFor<V> A>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE friend Dual operator/(const A& a, const Dual& b) {
    const V ratio = a / b.v;
    return {ratio, -(ratio / b.v) * b.d};
  }

 private:
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE static V fused(const V& a, const V& b, const V& c) {
    using std::fma;
    return fma(a, b, c);
  }
};

template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> fma(const Dual<V>& a, const Dual<V>& b,
                                                              const Dual<V>& c) {
  using std::fma;
  return {fma(a.v, b.v, c.v), fma(a.d, b.v, fma(a.v, b.d, c.d))};
}

template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> sqrt(const Dual<V>& a) {
  using std::sqrt;
  const V root = sqrt(a.v);
  return {root, a.d / (root + root)};
}

template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> exp(const Dual<V>& a) {
  using std::exp;
  const V e = exp(a.v);
  return {e, e * a.d};
}

template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> log(const Dual<V>& a) {
  using std::log;
  return {log(a.v), a.d / a.v};
}

// s' = s (1 - s) x'. For large |x| a factor is zero and with it the tangent.
template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> logistic(const Dual<V>& a) {
  using T = typename ScalarOf<V>::Type;
  const V s = logistic(a.v);
  return {s, s * (T{1} - s) * a.d};
}

// The order is that of the values.
template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> where_less(const Dual<V>& a,
                                                                     const Dual<V>& b,
                                                                     const Dual<V>& x,
                                                                     const Dual<V>& y) {
  return {where_less(a.v, b.v, x.v, y.v), where_less(a.v, b.v, x.d, y.d)};
}

// What a team's reductions need of a pack: see CpuTeam. Values and tangents are combined alike.
template <class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline V value_of(const Dual<V>& a) {
  return a.v;
}
template <class T, int N>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<Pack<T, N>> first_lanes(
    const Dual<Pack<T, N>>& x, int count, const Dual<T>& fill) {
  return {first_lanes(x.v, count, fill.v), first_lanes(x.d, count, fill.d)};
}
template <class Combine, class V>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<V> combine_packs(const Combine& combine,
                                                                        const Dual<V>& x,
                                                                        const Dual<V>& y) {
  return {combine_packs(combine, x.v, y.v), combine_packs(combine, x.d, y.d)};
}
template <class T, class Combine>
[[gnu::always_inline]] MEMWALL_HOST_DEVICE inline Dual<T> combine_lanes(const Dual<Pack<T>>& x,
                                                                        const Combine& combine) {
  return {combine_lanes(x.v, combine), combine_lanes(x.d, combine)};
}

// Two buffers of one shape.
template <class S, class C = S>
struct DualInput {
  Input<S, C> value, tangent;

  template <class At>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE auto operator()(At at) const {
    return Dual<decltype(value(at))>{value(at), tangent(at)};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE Dual<C> scalar(int64_t i) const {
    return {value.scalar(i), tangent.scalar(i)};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE DualInput from(int64_t offset) const {
    return {value.from(offset), tangent.from(offset)};
  }
};

template <class S, class C = S>
struct DualOutput {
  Output<S, C> value, tangent;

  template <class At>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE void store(At at,
                                                        const Dual<Pack<C, At::kSize>>& x) const {
    value.store(at, x.v);
    tangent.store(at, x.d);
  }
  // A constant: its tangent is zero.
  template <class At>
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE void store(At at, C x) const {
    value.store(at, x);
    tangent.store(at, C{0});
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE void set(int64_t i, const Dual<C>& x) const {
    value.set(i, x.v);
    tangent.set(i, x.d);
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE DualOutput from(int64_t offset) const {
    return {value.from(offset), tangent.from(offset)};
  }
  [[gnu::always_inline]] MEMWALL_HOST_DEVICE DualInput<S, C> stored() const {
    return {value.stored(), tangent.stored()};
  }
};

// The views of a kernel that computes values and tangents; `ValueViews` (team.h) are the plain
// ones.
struct DualViews {
  template <class S, class C>
  using Input = DualInput<S, C>;
  template <class S, class C>
  using Output = DualOutput<S, C>;
};

}  // namespace memwall
