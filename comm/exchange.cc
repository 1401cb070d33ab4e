#include "comm/exchange.h"

#include <algorithm>
#include <cstring>

#include "comm/rank_sum.h"
#include "runtime/base/collective.h"
#include "runtime/base/math.h"

namespace memwall {

namespace {

template <class Byte>
std::span<Byte> bytes_at(Byte* base, int64_t offset, int64_t bytes) {
  return {base + offset, static_cast<size_t>(bytes)};
}

}  // namespace

AllGather::AllGather(int rank, const void* shard, void* whole, int64_t shard_bytes,
                     int64_t block_bytes)
    : rank_(rank),
      shard_(shard),
      whole_(static_cast<std::byte*>(whole)),
      shard_bytes_(shard_bytes),
      block_bytes_(block_bytes) {}

void AllGather::start() {
  std::byte* const own = whole_ + rank_ * shard_bytes_;
  if (own != shard_ && shard_bytes_ > 0) {
    std::memcpy(own, shard_, static_cast<size_t>(shard_bytes_));
  }
}

int64_t AllGather::blocks() const {
  return ceil_div(shard_bytes_, block_bytes_);
}

std::span<std::byte> AllGather::part(int owner, int64_t block) const {
  const int64_t begin = block * block_bytes_;
  return bytes_at(whole_, owner * shard_bytes_ + begin,
                  std::min(block_bytes_, shard_bytes_ - begin));
}

std::span<const std::byte> AllGather::outgoing(int64_t block, int) const {
  return part(rank_, block);
}

std::span<std::byte> AllGather::incoming(int64_t block, int peer) const {
  return part(peer, block);
}

ReduceScatter::ReduceScatter(int rank, int ranks, const void* whole, void* shard,
                             int64_t shard_elements, DType dtype, void* receive)
    : rank_(rank),
      whole_(static_cast<const std::byte*>(whole)),
      shard_(static_cast<std::byte*>(shard)),
      shard_elements_(shard_elements),
      block_elements_(reduce_scatter_block_elements(ranks, shard_elements, dtype)),
      dtype_(dtype),
      receive_(static_cast<std::byte*>(receive)),
      terms_(static_cast<size_t>(ranks)) {}

int64_t ReduceScatter::blocks() const {
  return shard_elements_ == 0 ? 0 : ceil_div(shard_elements_, block_elements_);
}

int64_t ReduceScatter::elements_in(int64_t block) const {
  return std::min(block_elements_, shard_elements_ - block * block_elements_);
}

std::span<const std::byte> ReduceScatter::contribution(int owner, int64_t block) const {
  const int64_t begin = owner * shard_elements_ + block * block_elements_;
  return bytes_at(whole_, begin * size_of(dtype_), elements_in(block) * size_of(dtype_));
}

std::span<const std::byte> ReduceScatter::outgoing(int64_t block, int peer) const {
  return contribution(peer, block);
}

std::span<std::byte> ReduceScatter::incoming(int64_t block, int peer) const {
  const int64_t slot = peer < rank_ ? peer : peer - 1;
  return bytes_at(receive_, slot * block_elements_ * size_of(dtype_),
                  elements_in(block) * size_of(dtype_));
}

void ReduceScatter::finish(int64_t block) {
  for (int rank = 0; rank < static_cast<int>(terms_.size()); ++rank) {
    terms_[static_cast<size_t>(rank)] =
        rank == rank_ ? contribution(rank_, block).data() : incoming(block, rank).data();
  }
  sum_in_order(terms_, shard_ + block * block_elements_ * size_of(dtype_), elements_in(block),
               dtype_);
}

AllReduce::AllReduce(int rank, int ranks, double* values, int64_t count, void* receive,
                     int64_t block_bytes)
    : values_(values),
      gather_(rank, values, receive, count * size_of(DType::kF64), block_bytes),
      count_(count),
      terms_(static_cast<size_t>(ranks)) {
  for (int r = 0; r < ranks; ++r) {
    terms_[static_cast<size_t>(r)] = static_cast<const double*>(receive) + r * count;
  }
}

void AllReduce::start() {
  gather_.start();
}
int64_t AllReduce::blocks() const {
  return gather_.blocks();
}

std::span<const std::byte> AllReduce::outgoing(int64_t block, int peer) const {
  return gather_.outgoing(block, peer);
}

std::span<std::byte> AllReduce::incoming(int64_t block, int peer) const {
  return gather_.incoming(block, peer);
}

void AllReduce::finish(int64_t block) {
  if (block + 1 == blocks()) sum_in_order(terms_, values_, count_, DType::kF64);
}

Broadcast::Broadcast(int rank, int root, void* data, int64_t bytes, int64_t block_bytes)
    : rank_(rank),
      root_(root),
      data_(static_cast<std::byte*>(data)),
      bytes_(bytes),
      block_bytes_(block_bytes) {}

int64_t Broadcast::blocks() const {
  return ceil_div(bytes_, block_bytes_);
}

std::span<std::byte> Broadcast::part(int64_t block) const {
  const int64_t begin = block * block_bytes_;
  return bytes_at(data_, begin, std::min(block_bytes_, bytes_ - begin));
}

std::span<const std::byte> Broadcast::outgoing(int64_t block, int) const {
  if (rank_ != root_) return {};
  return part(block);
}

std::span<std::byte> Broadcast::incoming(int64_t block, int peer) const {
  if (peer != root_) return {};
  return part(block);
}

}  // namespace memwall
