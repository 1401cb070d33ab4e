#include "comm/shared/window_call.h"

#include <algorithm>
#include <cstring>

#include "comm/rank_sum.h"
#include "comm/shared/stream_copy.h"
#include "runtime/base/collective.h"
#include "runtime/base/math.h"

namespace memwall {

namespace {

// A result of this size leaves the second-level cache anyway before it is used.
constexpr int64_t kStreamedBytes = int64_t{2} << 20;

void plain_copy(void* to, const void* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

// The part of a buffer of `total` that block `block` of `step` covers.
int64_t length_of(int64_t block, int64_t step, int64_t total) {
  return std::min(step, total - block * step);
}

WindowPart part_of(const std::byte* data, int64_t bytes, int64_t offset, int readers) {
  return {{data, static_cast<size_t>(bytes)}, offset, readers};
}

}  // namespace

WindowGather::WindowGather(int rank, int ranks, const void* shard, void* whole, int64_t shard_bytes,
                           int64_t stride_bytes, int64_t slot_bytes)
    : rank_(rank),
      ranks_(ranks),
      shard_(static_cast<const std::byte*>(shard)),
      whole_(static_cast<std::byte*>(whole)),
      shard_bytes_(shard_bytes),
      stride_bytes_(stride_bytes),
      slot_bytes_(slot_bytes),
      copy_(ranks * shard_bytes >= kStreamedBytes ? stream_copy : plain_copy) {}

int64_t WindowGather::blocks() const {
  return ceil_div(shard_bytes_, slot_bytes_);
}

void WindowGather::outgoing(int64_t block, std::vector<WindowPart>& parts) const {
  const int64_t bytes = length_of(block, slot_bytes_, shard_bytes_);
  parts.push_back(part_of(shard_ + block * slot_bytes_, bytes, 0, ranks_ - 1));
}

WindowRange WindowGather::incoming(int64_t block, int) const {
  return {0, length_of(block, slot_bytes_, shard_bytes_)};
}

void WindowGather::take(int64_t block, int peer, const std::byte* data) {
  copy_(whole_ + peer * stride_bytes_ + block * slot_bytes_, data,
        length_of(block, slot_bytes_, shard_bytes_));
}

void WindowGather::laid(int64_t block) {
  const std::byte* const data = shard_ + block * slot_bytes_;
  std::byte* const own = whole_ + rank_ * stride_bytes_ + block * slot_bytes_;
  if (own != data) copy_(own, data, length_of(block, slot_bytes_, shard_bytes_));
}

WindowScatter::WindowScatter(int rank, int ranks, const void* whole, void* shard,
                             int64_t shard_elements, int64_t stride_elements, DType dtype,
                             int64_t slot_bytes)
    : rank_(rank),
      ranks_(ranks),
      whole_(static_cast<const std::byte*>(whole)),
      shard_(static_cast<std::byte*>(shard)),
      shard_elements_(shard_elements),
      stride_elements_(stride_elements),
      block_elements_(slot_bytes / (ranks - 1) / size_of(dtype) / kSlotAlignment * kSlotAlignment),
      dtype_(dtype),
      terms_(static_cast<size_t>(ranks)) {}

int64_t WindowScatter::blocks() const {
  return ceil_div(shard_elements_, block_elements_);
}

int64_t WindowScatter::elements_in(int64_t block) const {
  return length_of(block, block_elements_, shard_elements_);
}

const std::byte* WindowScatter::contribution(int owner, int64_t block) const {
  return whole_ + (owner * stride_elements_ + block * block_elements_) * size_of(dtype_);
}

int64_t WindowScatter::part_offset(int from, int to) const {
  return (to < from ? to : to - 1) * block_elements_ * size_of(dtype_);
}

void WindowScatter::outgoing(int64_t block, std::vector<WindowPart>& parts) const {
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_) continue;
    parts.push_back(part_of(contribution(peer, block), elements_in(block) * size_of(dtype_),
                            part_offset(rank_, peer), 1));
  }
}

WindowRange WindowScatter::incoming(int64_t block, int peer) const {
  return {part_offset(peer, rank_), elements_in(block) * size_of(dtype_)};
}

void WindowScatter::take(int64_t, int peer, const std::byte* data) {
  terms_[static_cast<size_t>(peer)] = data;
}

void WindowScatter::finish(int64_t block) {
  terms_[static_cast<size_t>(rank_)] = contribution(rank_, block);
  sum_in_order(terms_, shard_ + block * block_elements_ * size_of(dtype_), elements_in(block),
               dtype_);
}

WindowReduce::WindowReduce(int rank, int ranks, double* values, int64_t count, int64_t slot_bytes)
    : rank_(rank),
      ranks_(ranks),
      values_(values),
      count_(count),
      block_count_(slot_bytes / size_of(DType::kF64)),
      terms_(static_cast<size_t>(ranks)) {}

int64_t WindowReduce::blocks() const {
  return ceil_div(count_, block_count_);
}

int64_t WindowReduce::count_in(int64_t block) const {
  return length_of(block, block_count_, count_);
}

void WindowReduce::outgoing(int64_t block, std::vector<WindowPart>& parts) const {
  const auto* const data = reinterpret_cast<const std::byte*>(values_ + block * block_count_);
  parts.push_back(part_of(data, count_in(block) * size_of(DType::kF64), 0, ranks_ - 1));
}

WindowRange WindowReduce::incoming(int64_t block, int) const {
  return {0, count_in(block) * size_of(DType::kF64)};
}

void WindowReduce::take(int64_t, int peer, const std::byte* data) {
  terms_[static_cast<size_t>(peer)] = data;
}

void WindowReduce::finish(int64_t block) {
  double* const mine = values_ + block * block_count_;
  terms_[static_cast<size_t>(rank_)] = mine;
  sum_in_order(terms_, mine, count_in(block), DType::kF64);
}

WindowBroadcast::WindowBroadcast(int rank, int ranks, int root, void* data, int64_t bytes,
                                 int64_t slot_bytes)
    : rank_(rank),
      ranks_(ranks),
      root_(root),
      data_(static_cast<std::byte*>(data)),
      bytes_(bytes),
      slot_bytes_(slot_bytes) {}

int64_t WindowBroadcast::blocks() const {
  return ceil_div(bytes_, slot_bytes_);
}

void WindowBroadcast::outgoing(int64_t block, std::vector<WindowPart>& parts) const {
  if (rank_ != root_) return;
  parts.push_back(
      part_of(data_ + block * slot_bytes_, length_of(block, slot_bytes_, bytes_), 0, ranks_ - 1));
}

WindowRange WindowBroadcast::incoming(int64_t block, int peer) const {
  if (peer != root_) return {};
  return {0, length_of(block, slot_bytes_, bytes_)};
}

void WindowBroadcast::take(int64_t block, int, const std::byte* data) {
  std::memcpy(data_ + block * slot_bytes_, data,
              static_cast<size_t>(length_of(block, slot_bytes_, bytes_)));
}

}  // namespace memwall
