// What a collective of the imitated NCCL does when its turn in the stream comes: every rank sends
// each other what it needs, over MPI, without blocking. Before the data go headers, which say what
// is called: ranks that do not call the same collectives in the same order are told so.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace memwall::imitated {

enum class Call : uint32_t {
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kBroadcast,
  kSend,
  kReceive,
};
const char* name_of(Call call);

// One NCCL call.
struct Part {
  Call call = Call::kAllGather;
  ncclDataType_t type = ncclFloat32;
  size_t count = 0;  // as handed to NCCL
  int peer = 0;      // of a broadcast: its root
  const void* from = nullptr;
  void* to = nullptr;
  // Where in a symmetric window the buffer lies that other ranks reach, plus 1; 0: in none. The
  // same on all ranks.
  uint64_t place = 0;

  // Of from and to, with a communicator of so many ranks.
  size_t from_bytes(int ranks) const;
  size_t to_bytes(int ranks) const;
};

// The calls of one group on one stream. It may run again after it is finished.
class Exchange {
 public:
  Exchange(MPI_Comm world, int rank, int ranks, std::vector<Part> parts)
      : world_(world), rank_(rank), ranks_(ranks), parts_(std::move(parts)) {}
  ~Exchange();  // buffers that MPI still uses are left to it
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  enum class State { kWaiting, kFinished, kMismatch };
  // Reads the send buffers at its first call, writes the others at its last. MPI is called from
  // here.
  State progress();
  const std::string& mismatch() const { return mismatch_; }

 private:
  struct Header {
    uint64_t call, type, count, peer, place;
    bool operator==(const Header&) const = default;
  };
  struct Message {
    size_t part;
    int peer;
    Header header;
    std::vector<std::byte> data;
  };
  enum class Phase { kIdle, kHeaders, kData };

  void prepare();
  void prepare_part(size_t index);
  void pair_own_messages();
  void post_headers();
  void post_data();
  bool headers_agree();
  void finish();
  void finish_part(size_t index);
  bool all_arrived();
  Header header_of(const Part& part) const;
  const std::byte* contribution(size_t part, int rank) const;

  MPI_Comm world_;
  int rank_, ranks_;
  std::vector<Part> parts_;
  Phase phase_ = Phase::kIdle;
  std::vector<std::vector<std::byte>> own_;  // of each part, what the rank itself contributes
  std::vector<Message> outgoing_, incoming_;
  std::vector<MPI_Request> requests_;
  std::string mismatch_;
};

}  // namespace memwall::imitated
