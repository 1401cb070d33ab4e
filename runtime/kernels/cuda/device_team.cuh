// The teams that run on the GPU: see team.h.
#pragma once

#include "runtime/kernels/cuda/team.h"

namespace memwall::cuda {

template <class T>
__device__ inline T shuffle_xor(T x, int distance) {
  return __shfl_xor_sync(0xffffffffu, x, distance);
}
template <class T>
__device__ inline Dual<T> shuffle_xor(const Dual<T>& x, int distance) {
  return {shuffle_xor(x.v, distance), shuffle_xor(x.d, distance)};
}

template <int kThreads>
struct DeviceTeam : Reductions<DeviceTeam<kThreads>> {
  static_assert(kThreads % kWarp == 0);

  template <int = kLanes, class F>
  __device__ static void each(int64_t begin, int64_t end, const F& f) {
    each_of_thread(thread(), kThreads, begin, end, f);
  }
  template <class F>
  __device__ static auto only(int64_t index, const F& f) {
    using R = decltype(f(Part{index, 1}));
    const bool mine = thread() == owner_of(index, kThreads);
    if constexpr (std::is_void_v<R>) {
      if (mine) f(Part{index, 1});
    } else {
      R result{};
      if (mine) result = f(Part{index, 1});
      return result;
    }
  }
  template <class F>
  __device__ static void lead(const F& f) {
    if (thread() == 0) f();
  }
  // f() of one thread, for all.
  template <class F>
  __device__ static auto once(const F& f) {
    using R = decltype(f());
    __shared__ R result;
    static_assert(kThreads > kWarp, "a warp shares its block with others");
    __syncthreads();
    if (thread() == 0) result = f();
    __syncthreads();
    return result;
  }

  template <class P, class F, class Combine>
  __device__ static auto reduce(int64_t count, const F& f, const Combine& combine,
                                const typename P::Scalar& neutral) {
    using T = typename P::Scalar;
    T mine = reduce_of_thread<P>(thread(), kThreads, count, f, combine, neutral);
#pragma unroll
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      mine = combine_scalars(combine, mine, shuffle_xor(mine, distance));
    }
    if constexpr (kThreads == kWarp) return mine;
    constexpr int kWarps = kThreads / kWarp;
    __shared__ alignas(16) unsigned char storage[kWarps * sizeof(T)];
    T* const warps = reinterpret_cast<T*>(storage);
    __syncthreads();  // the last sum has been read
    if (thread() % kWarp == 0) warps[thread() / kWarp] = mine;
    __syncthreads();
    T all = warps[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) all = combine_scalars(combine, all, warps[warp]);
    return all;
  }

 private:
  __device__ static int thread() {
    return static_cast<int>(threadIdx.x) % kThreads;
  }
};

}  // namespace memwall::cuda
