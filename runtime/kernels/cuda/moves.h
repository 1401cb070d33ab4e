// Packs from and to memory, and their lanes, in a thread of the GPU. Included by kernels/pack.h;
// the twin of cpu/moves.h.
#pragma once

#include "runtime/kernels/pack.h"

namespace memwall {

template <class T, int N>
MEMWALL_HOST_DEVICE inline Pack<T, N> lane_numbers() {
  Pack<T, N> out;
  for (int i = 0; i < N; ++i) out.part[i] = static_cast<T>(i);
  return out;
}

template <class C, class S>
MEMWALL_HOST_DEVICE inline C from_memory(S x) {
  if constexpr (kIsNarrow<S>) {
    return static_cast<C>(widen<S>(x.bits));
  } else {
    return static_cast<C>(x);
  }
}
template <class S, class C>
MEMWALL_HOST_DEVICE inline S to_memory(C x) {
  if constexpr (kIsNarrow<S>) {
    S out;
    out.bits = narrow<S>(x);
    return out;
  } else {
    return static_cast<S>(x);
  }
}

// What one access of a thread moves where the address allows it.
template <class S, int N>
struct alignas(N * sizeof(S)) Chunk {
  S lane[N];
};
template <class S, int N>
MEMWALL_HOST_DEVICE inline bool is_whole_chunk(const S* at) {
  return reinterpret_cast<uintptr_t>(at) % alignof(Chunk<S, N>) == 0;
}

// On imitated GPUs bytes are copied: g++ merges the two ways and takes any address for aligned.
template <class S, int N>
MEMWALL_HOST_DEVICE inline Chunk<S, N> read_chunk(const S* from) {
  Chunk<S, N> chunk;
#ifdef __CUDA_ARCH__
  if (is_whole_chunk<S, N>(from)) {
    chunk = *reinterpret_cast<const Chunk<S, N>*>(from);
  } else {
    for (int i = 0; i < N; ++i) chunk.lane[i] = from[i];
  }
#else
  std::memcpy(chunk.lane, from, sizeof(chunk.lane));
#endif
  return chunk;
}
template <class S, int N>
MEMWALL_HOST_DEVICE inline void write_chunk(S* to, const Chunk<S, N>& chunk) {
#ifdef __CUDA_ARCH__
  if (is_whole_chunk<S, N>(to)) {
    *reinterpret_cast<Chunk<S, N>*>(to) = chunk;
  } else {
    for (int i = 0; i < N; ++i) to[i] = chunk.lane[i];
  }
#else
  std::memcpy(to, chunk.lane, sizeof(chunk.lane));
#endif
}

template <class C, int N, class S>
MEMWALL_HOST_DEVICE inline Pack<C, N> load(const S* from) {
  static_assert(N == kLanes);
  const Chunk<S, N> chunk = read_chunk<S, N>(from);
  Pack<C, N> out;
  for (int i = 0; i < N; ++i) out.part[i] = from_memory<C>(chunk.lane[i]);
  return out;
}

template <class C, int N, class S>
MEMWALL_HOST_DEVICE inline void store(S* to, const Pack<C, N>& x) {
  static_assert(!kIsNarrow<S> || std::is_same_v<C, float>);
  Chunk<S, N> chunk;
  for (int i = 0; i < N; ++i) chunk.lane[i] = to_memory<S>(x.part[i]);
  write_chunk<S, N>(to, chunk);
}

template <class C, int N, class S>
MEMWALL_HOST_DEVICE inline Pack<C, N> load_first(const S* from, int count) {
  Pack<C, N> out;
  for (int i = 0; i < N; ++i) out.part[i] = i < count ? from_memory<C>(from[i]) : C{0};
  return out;
}

template <class C, int N, class S>
MEMWALL_HOST_DEVICE inline void store_first(S* to, const Pack<C, N>& x, int count) {
  for (int i = 0; i < N; ++i) {
    if (i < count) to[i] = to_memory<S>(x.part[i]);
  }
}

// Lane i with lane i + n / 2, for n = 4, 2.
template <class T, class Combine>
MEMWALL_HOST_DEVICE inline T combine_lanes(Pack<T> x, const Combine& combine) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.part[i] = combine(x.part[i], x.part[i + half]);
  }
  return x.part[0];
}

}  // namespace memwall
