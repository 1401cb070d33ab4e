#include "tests/imitated_gpu/nccl_exchange.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/imitated_gpu/nccl_sum.h"

namespace memwall::imitated {
namespace {

constexpr size_t kMostBytes = size_t{1} << 30;  // of one MPI message
// Collectives and point-to-point calls are matched apart from each other.
constexpr int kHeaderTag = 1, kDataTag = 2, kPointHeaderTag = 3, kPointDataTag = 4;

bool is_point_to_point(Call call) {
  return call == Call::kSend || call == Call::kReceive;
}

template <class Post>  // post(bytes from, count)
void in_pieces(std::byte* data, size_t bytes, Post post) {
  for (size_t done = 0; done < bytes; done += kMostBytes) {
    post(data + done, static_cast<int>(std::min(kMostBytes, bytes - done)));
  }
}

}  // namespace

const char* name_of(Call call) {
  switch (call) {
    case Call::kAllGather: return "ncclAllGather";
    case Call::kReduceScatter: return "ncclReduceScatter";
    case Call::kAllReduce: return "ncclAllReduce";
    case Call::kBroadcast: return "ncclBroadcast";
    case Call::kSend: return "ncclSend";
    case Call::kReceive: return "ncclRecv";
  }
  return "?";
}

size_t Part::from_bytes(int ranks) const {
  if (call == Call::kReceive) return 0;
  const size_t blocks = call == Call::kReduceScatter ? static_cast<size_t>(ranks) : 1;
  return blocks * count * nccl_element_bytes(type);
}
size_t Part::to_bytes(int ranks) const {
  if (call == Call::kSend) return 0;
  const size_t blocks = call == Call::kAllGather ? static_cast<size_t>(ranks) : 1;
  return blocks * count * nccl_element_bytes(type);
}

Exchange::~Exchange() {
  if (phase_ == Phase::kIdle) return;
  new auto(std::move(outgoing_));
  new auto(std::move(incoming_));
}

Exchange::Header Exchange::header_of(const Part& part) const {
  const bool point = is_point_to_point(part.call);
  return {static_cast<uint64_t>(point ? Call::kSend : part.call), static_cast<uint64_t>(part.type),
          part.count, part.call == Call::kBroadcast ? static_cast<uint64_t>(part.peer) : 0,
          part.place};
}

Exchange::State Exchange::progress() {
  if (phase_ == Phase::kIdle) {
    prepare();
    post_headers();
    phase_ = Phase::kHeaders;
  }
  if (phase_ == Phase::kHeaders) {
    if (!all_arrived()) return State::kWaiting;
    if (!headers_agree()) {
      phase_ = Phase::kIdle;
      return State::kMismatch;
    }
    post_data();
    phase_ = Phase::kData;
  }
  if (!all_arrived()) return State::kWaiting;
  finish();
  phase_ = Phase::kIdle;
  return State::kFinished;
}

bool Exchange::all_arrived() {
  int arrived = 1;
  if (!requests_.empty()) {
    MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &arrived,
                MPI_STATUSES_IGNORE);
  }
  if (arrived != 0) requests_.clear();
  return arrived != 0;
}

void Exchange::prepare() {
  own_.assign(parts_.size(), {});
  outgoing_.clear();
  incoming_.clear();
  for (size_t i = 0; i < parts_.size(); ++i) prepare_part(i);
  pair_own_messages();
}

// What a rank sends to itself: its n-th receive gets its n-th send of the group.
void Exchange::pair_own_messages() {
  std::vector<size_t> sends, receives;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].peer != rank_) continue;
    if (parts_[i].call == Call::kSend) sends.push_back(i);
    if (parts_[i].call == Call::kReceive) receives.push_back(i);
  }
  bool agree = sends.size() == receives.size();
  for (size_t i = 0; agree && i < sends.size(); ++i) {
    agree = header_of(parts_[sends[i]]) == header_of(parts_[receives[i]]);
    own_[receives[i]] = own_[sends[i]];
  }
  if (!agree) mismatch_ = "a rank's sends to itself are not its receives from itself";
}

void Exchange::prepare_part(size_t index) {
  const Part& part = parts_[index];
  const Header header = header_of(part);
  const size_t block = part.count * nccl_element_bytes(part.type);
  const auto* from = static_cast<const std::byte*>(part.from);
  const auto block_of = [&](int rank) {
    const std::byte* first =
        part.call == Call::kReduceScatter ? from + static_cast<size_t>(rank) * block : from;
    return std::vector<std::byte>(first, first + block);
  };
  const bool sends =
      part.call != Call::kReceive && (part.call != Call::kBroadcast || part.peer == rank_);
  const bool receives =
      part.call != Call::kSend && (part.call != Call::kBroadcast || part.peer != rank_);
  const bool point = is_point_to_point(part.call);
  if (sends && (!point || part.peer == rank_)) own_[index] = block_of(rank_);
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_ || (point && peer != part.peer)) continue;
    // Headers of collectives go both ways, data only where there are any.
    if (!point || sends) {
      outgoing_.push_back({index, peer, header, sends ? block_of(peer) : std::vector<std::byte>{}});
    }
    if (!point || receives) {
      const bool holds_data = receives && (part.call != Call::kBroadcast || peer == part.peer);
      incoming_.push_back({index, peer, header, std::vector<std::byte>(holds_data ? block : 0)});
    }
  }
}

void Exchange::post_headers() {
  for (Message& message : incoming_) {
    const bool point = is_point_to_point(parts_[message.part].call);
    MPI_Irecv(&message.header, sizeof(Header), MPI_BYTE, message.peer,
              point ? kPointHeaderTag : kHeaderTag, world_, &requests_.emplace_back());
  }
  for (Message& message : outgoing_) {
    const bool point = is_point_to_point(parts_[message.part].call);
    MPI_Isend(&message.header, sizeof(Header), MPI_BYTE, message.peer,
              point ? kPointHeaderTag : kHeaderTag, world_, &requests_.emplace_back());
  }
}

bool Exchange::headers_agree() {
  if (!mismatch_.empty()) return false;
  for (const Message& message : incoming_) {
    const Part& part = parts_[message.part];
    const Header& theirs = message.header;
    if (theirs == header_of(part)) continue;
    mismatch_ = "rank " + std::to_string(rank_) + " calls " + name_of(part.call) + " of " +
                std::to_string(part.count) + " elements of type " + std::to_string(part.type) +
                ", rank " + std::to_string(message.peer) + " calls " +
                name_of(static_cast<Call>(theirs.call)) + " of " + std::to_string(theirs.count) +
                " elements of type " + std::to_string(theirs.type);
    if (theirs.place != part.place) {
      mismatch_ += ", at " + std::to_string(part.place) + " and " + std::to_string(theirs.place) +
                   " of their symmetric windows (from 1; 0: in none)";
    }
    return false;
  }
  return true;
}

void Exchange::post_data() {
  for (Message& message : incoming_) {
    const bool point = is_point_to_point(parts_[message.part].call);
    in_pieces(message.data.data(), message.data.size(), [&](std::byte* data, int bytes) {
      MPI_Irecv(data, bytes, MPI_BYTE, message.peer, point ? kPointDataTag : kDataTag, world_,
                &requests_.emplace_back());
    });
  }
  for (Message& message : outgoing_) {
    const bool point = is_point_to_point(parts_[message.part].call);
    in_pieces(message.data.data(), message.data.size(), [&](std::byte* data, int bytes) {
      MPI_Isend(data, bytes, MPI_BYTE, message.peer, point ? kPointDataTag : kDataTag, world_,
                &requests_.emplace_back());
    });
  }
}

const std::byte* Exchange::contribution(size_t part, int rank) const {
  if (rank == rank_) return own_[part].data();
  for (const Message& message : incoming_) {
    if (message.part == part && message.peer == rank) return message.data.data();
  }
  return nullptr;
}

void Exchange::finish() {
  for (size_t i = 0; i < parts_.size(); ++i) finish_part(i);
  outgoing_.clear();
  incoming_.clear();
}

void Exchange::finish_part(size_t index) {
  const Part& part = parts_[index];
  const size_t block = part.count * nccl_element_bytes(part.type);
  auto* to = static_cast<std::byte*>(part.to);
  switch (part.call) {
    case Call::kAllGather:
      for (int rank = 0; rank < ranks_; ++rank) {
        std::memcpy(to + static_cast<size_t>(rank) * block, contribution(index, rank), block);
      }
      return;
    case Call::kReduceScatter:
    case Call::kAllReduce: {
      std::vector<const std::byte*> contributions;
      for (int rank = 0; rank < ranks_; ++rank) {
        contributions.push_back(contribution(index, rank));
      }
      return sum_in_order(part.type, part.count, contributions, to);
    }
    case Call::kBroadcast:
    case Call::kReceive: {
      const std::byte* data = contribution(index, part.peer);
      if (data != nullptr) std::memcpy(to, data, block);
      return;
    }
    case Call::kSend: return;
  }
}

}  // namespace memwall::imitated
