// Teams of the GPU: a warp or a block of threads, and the same imitated on the host, lane by lane.
//
// A team hands out packs of kLanes elements: pack p of a range goes to thread p % threads. So an
// element of a row belongs to the same thread in every call whose range begins a multiple of
// kLanes * threads apart, and needs no barrier. A sum adds a thread's packs in their order, then
// the lanes of a pack, then the threads of a warp (thread t with t ^ 16, ^ 8, ^ 4, ^ 2, ^ 1), then
// the warps in their order. The bits depend on the index in the row and on the team's size alone.
#pragma once

#include "runtime/kernels/dual.h"
#include "runtime/kernels/team.h"

namespace memwall::cuda {

inline constexpr int kWarp = 32;

// What `thread` of `threads` does of [begin, end): f of whole packs, and of the last part.
template <class F>
MEMWALL_HOST_DEVICE inline void each_of_thread(int thread, int threads, int64_t begin, int64_t end,
                                               const F& f) {
  for (int64_t i = begin + int64_t{thread} * kLanes; i < end; i += int64_t{threads} * kLanes) {
    if (i + kLanes <= end) {
      f(Whole<kLanes>{i});
    } else {
      f(Part{i, static_cast<int>(end - i)});
    }
  }
}

// The combination of what f gives `thread` of [0, count), its lanes combined.
template <class P, class F, class Combine>
MEMWALL_HOST_DEVICE inline auto reduce_of_thread(int thread, int threads, int64_t count, const F& f,
                                                 const Combine& combine,
                                                 const typename P::Scalar& neutral) {
  P total = neutral;
  for (int64_t i = int64_t{thread} * kLanes; i < count; i += int64_t{threads} * kLanes) {
    if (i + kLanes <= count) {
      total = combine_packs(combine, total, f(Whole<kLanes>{i}));
    } else {
      const int lanes = static_cast<int>(count - i);
      total = combine_packs(combine, total, first_lanes(f(Part{i, lanes}), lanes, neutral));
    }
  }
  return combine_lanes(total, combine);
}

template <class Combine, class T>
MEMWALL_HOST_DEVICE inline T combine_scalars(const Combine& combine, const T& a, const T& b) {
  return combine(a, b);
}
template <class Combine, class T>
MEMWALL_HOST_DEVICE inline Dual<T> combine_scalars(const Combine& combine, const Dual<T>& a,
                                                   const Dual<T>& b) {
  return {combine(a.v, b.v), combine(a.d, b.d)};
}

// The thread that element `index` of a row belongs to.
MEMWALL_HOST_DEVICE constexpr int owner_of(int64_t index, int threads) {
  return static_cast<int>(index / kLanes % threads);
}

// sum and max for a team that has `reduce`.
template <class Self>
struct Reductions {
  template <class F>
  MEMWALL_HOST_DEVICE auto sum(int64_t count, const F& f) {
    using P = decltype(f(Whole<kLanes>{0}));
    return self().template reduce<P>(count, f, Plus{}, typename P::Scalar{0});
  }
  template <class F>
  MEMWALL_HOST_DEVICE auto max(int64_t count, const F& f) {
    const auto value = [&](auto at) { return value_of(f(at)); };
    using P = decltype(value(Whole<kLanes>{0}));
    using T = typename P::Scalar;
    return self().template reduce<P>(count, value, Larger{}, -std::numeric_limits<T>::infinity());
  }

 private:
  MEMWALL_HOST_DEVICE Self& self() { return static_cast<Self&>(*this); }
};

// One thread of the host does all lanes' work, one after the other. (It is marked for both sides so
// that nvcc's warnings of functions of the host in kernels are about real ones.)
template <int kThreads>
struct ImitatedTeam : Reductions<ImitatedTeam<kThreads>> {
  template <int = kLanes, class F>
  MEMWALL_HOST_DEVICE static void each(int64_t begin, int64_t end, const F& f) {
    for (int thread = 0; thread < kThreads; ++thread) {
      each_of_thread(thread, kThreads, begin, end, f);
    }
  }
  template <class F>
  MEMWALL_HOST_DEVICE static auto only(int64_t index, const F& f) {
    return f(Part{index, 1});
  }
  template <class F>
  MEMWALL_HOST_DEVICE static void lead(const F& f) {
    f();
  }
  // f() of one thread, for all.
  template <class F>
  MEMWALL_HOST_DEVICE static auto once(const F& f) {
    return f();
  }

  template <class P, class F, class Combine>
  MEMWALL_HOST_DEVICE static auto reduce(int64_t count, const F& f, const Combine& combine,
                                         const typename P::Scalar& neutral) {
    using T = typename P::Scalar;
    T threads[kThreads];
    for (int t = 0; t < kThreads; ++t) {
      threads[t] = reduce_of_thread<P>(t, kThreads, count, f, combine, neutral);
    }
    T all = neutral;
    for (int warp = 0; warp < kThreads; warp += kWarp) {
      T* const lanes = threads + warp;
      for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        for (int t = 0; t < distance; ++t) {
          lanes[t] = combine_scalars(combine, lanes[t], lanes[t + distance]);
        }
      }
      all = warp == 0 ? lanes[0] : combine_scalars(combine, all, lanes[0]);
    }
    return all;
  }
};

}  // namespace memwall::cuda
