#include "runtime/cli/collective_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "comm/agree.h"
#include "memory/arena.h"
#include "runtime/base/hash.h"

namespace memwall {
namespace {

double now_seconds() {  // one clock for all processes of a host
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Small whole numbers: their sums are exact in any order, in FP32 too.
int64_t value(int64_t rank, int64_t i) {
  return (i * 7 + rank * 13) % 97 - 48;
}

int64_t sum_of_values(int64_t ranks, int64_t i) {
  int64_t sum = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) sum += value(rank, i);
  return sum;
}

// One collective of one size: what it reads, where it writes, and what must stand there then.
struct Trial {
  std::string name;
  int64_t bus_bytes = 0;
  std::span<std::byte> result;
  std::function<void()> prepare{};  // the result's bytes before a round
  std::function<void(const CollectiveSide&)> run{};
  uint64_t expected = 0;  // checksum of the right result
};

class Buffers {
 public:
  Buffers(int64_t ranks, int64_t bytes)
      : large_(ranks * bytes), small_(bytes), receive_(receive_bytes(ranks, bytes)) {}
  std::byte* large() const { return large_.data(); }  // ranks * bytes
  std::byte* small() const { return small_.data(); }  // bytes
  std::byte* receive() const { return receive_.data(); }

 private:
  static int64_t receive_bytes(int64_t ranks, int64_t bytes) {
    const int64_t part = bytes / size_of(DType::kF32) / ranks;
    int64_t out =
        std::max(int64_t{1}, all_reduce_receive_bytes(ranks, bytes / size_of(DType::kF64)));
    for (const Algorithm algorithm :
         {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
      out = std::max(
          out, reduce_scatter_receive_bytes(ranks, part, DType::kF32, Transport::kMpi, algorithm));
    }
    return out;
  }
  const Arena large_, small_, receive_;
};

template <class T, class Value>
void fill(std::byte* to, int64_t count, Value value_at) {
  T* const out = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(value_at(i));
}

template <class T, class Value>
uint64_t checksum_of(int64_t count, Value value_at) {
  std::vector<std::byte> right(static_cast<size_t>(count) * sizeof(T));
  fill<T>(right.data(), count, value_at);
  return hash_bytes(right.data(), right.size());
}

// Nothing that a round leaves out looks right.
void spoil(std::span<std::byte> bytes) {
  std::memset(bytes.data(), 0xff, bytes.size());
}

Trial reduce_scatter(const Buffers& at, int64_t rank, int64_t ranks, int64_t bytes) {
  const int64_t elements = bytes / size_of(DType::kF32), part = elements / ranks;
  auto* const whole = reinterpret_cast<float*>(at.large());
  auto* const shard = reinterpret_cast<float*>(at.small());
  fill<float>(at.large(), elements, [=](int64_t i) { return value(rank, i); });
  Trial out{.name = "reduce_scatter",
            .bus_bytes = bytes / ranks * (ranks - 1),
            .result = {at.small(), static_cast<size_t>(bytes / ranks)}};
  out.prepare = [result = out.result] { spoil(result); };
  out.run = [=, &at](const CollectiveSide& side) {
    side.reduce_scatter(whole, shard, part, at.receive());
  };
  out.expected =
      checksum_of<float>(part, [=](int64_t i) { return sum_of_values(ranks, rank * part + i); });
  return out;
}

Trial all_gather(const Buffers& at, int64_t rank, int64_t ranks, int64_t bytes) {
  const int64_t part = bytes / size_of(DType::kF32);
  auto* const whole = reinterpret_cast<float*>(at.large());
  auto* const shard = reinterpret_cast<float*>(at.small());
  fill<float>(at.small(), part, [=](int64_t i) { return value(rank, i); });
  Trial out{.name = "all_gather",
            .bus_bytes = bytes * (ranks - 1),
            .result = {at.large(), static_cast<size_t>(ranks * bytes)}};
  out.prepare = [result = out.result] { spoil(result); };
  out.run = [=](const CollectiveSide& side) { side.all_gather(shard, whole, part); };
  out.expected =
      checksum_of<float>(ranks * part, [=](int64_t i) { return value(i / part, i % part); });
  return out;
}

Trial all_reduce(const Buffers& at, int64_t rank, int64_t ranks, int64_t bytes) {
  const int64_t count = bytes / size_of(DType::kF64);
  fill<double>(at.large(), count, [=](int64_t i) { return value(rank, i); });
  Trial out{.name = "all_reduce",
            .bus_bytes = 2 * (bytes / ranks * (ranks - 1)),
            .result = {at.small(), static_cast<size_t>(bytes)}};
  out.prepare = [=, &at] { std::memcpy(at.small(), at.large(), static_cast<size_t>(bytes)); };
  out.run = [=, &at](const CollectiveSide& side) {
    side.all_reduce(reinterpret_cast<double*>(at.small()), count, at.receive());
  };
  out.expected = checksum_of<double>(count, [=](int64_t i) { return sum_of_values(ranks, i); });
  return out;
}

Trial broadcast(const Buffers& at, int64_t rank, int64_t, int64_t bytes) {
  const int64_t count = bytes / size_of(DType::kF64);
  fill<double>(at.large(), count, [](int64_t i) { return value(0, i); });
  Trial out{
      .name = "broadcast", .bus_bytes = bytes, .result = {at.small(), static_cast<size_t>(bytes)}};
  out.prepare = [=, &at, result = out.result] {
    if (rank != 0) return spoil(result);
    std::memcpy(at.small(), at.large(), static_cast<size_t>(bytes));
  };
  out.run = [=, &at](const CollectiveSide& side) { side.broadcast(at.small(), bytes); };
  out.expected = checksum_of<double>(count, [](int64_t i) { return value(0, i); });
  return out;
}

// Seconds of the job, the same on all ranks.
double timed(Communicator& comm, bool one_host, const std::function<void()>& body) {
  comm.barrier();
  const double begin = now_seconds();
  body();
  const double end = now_seconds();
  const std::vector<double> all = comm.gather_all({begin, end});
  double first = begin, last = end, longest = 0.0;
  for (size_t r = 0; r < all.size(); r += 2) {
    first = std::min(first, all[r]);
    last = std::max(last, all[r + 1]);
    longest = std::max(longest, all[r + 1] - all[r]);
  }
  return one_host ? last - first : longest;
}

void check_result(Communicator& comm, const Trial& trial, const CollectiveSide& side,
                  int64_t bytes) {
  run_together(comm, [&] {
    const uint64_t found = hash_bytes(trial.result.data(), trial.result.size());
    if (found == trial.expected) return;
    throw Error(
        fmt::format("{} of {} bytes over {}: the result's checksum is {}, not {}", trial.name,
                    bytes, side.name, hash_hex(found), hash_hex(trial.expected)),
        "", "the transport moved or added something wrong");
  });
}

}  // namespace

CollectiveSide side_of(const std::string& name, Communicator& comm, Algorithm algorithm) {
  return {
      .name = name,
      .reduce_scatter =
          [&comm, algorithm](const float* whole, float* shard, int64_t part, std::byte* receive) {
            comm.wait(comm.reduce_scatter(whole, shard, part, DType::kF32, receive, algorithm));
          },
      .all_gather =
          [&comm, algorithm](const float* shard, float* whole, int64_t part) {
            comm.wait(comm.all_gather(shard, whole, part * size_of(DType::kF32), algorithm));
          },
      .all_reduce = [&comm](
                        double* values, int64_t count,
                        std::byte* receive) { comm.wait(comm.all_reduce(values, count, receive)); },
      .broadcast = [&comm](std::byte* data, int64_t bytes) { comm.broadcast(data, bytes, 0); }};
}

std::vector<CollectiveTimes> measure_collectives(Communicator& comm,
                                                 std::span<const CollectiveSide> sides,
                                                 const CollectiveRounds& work) {
  std::vector<CollectiveTimes> out;
  std::set<std::string> too_long;  // at this size already
  for (const int64_t bytes : work.sizes) {
    for (const auto make : {reduce_scatter, all_gather, all_reduce, broadcast}) {
      std::unique_ptr<Buffers> at;
      run_together(comm, [&] { at = std::make_unique<Buffers>(comm.size(), bytes); });
      const Trial trial = make(*at, comm.rank(), comm.size(), bytes);
      if (work.wanted && !work.wanted(trial.name, bytes)) continue;
      if (too_long.contains(trial.name)) continue;
      const size_t first = out.size();
      for (const CollectiveSide& side : sides) {
        out.push_back({trial.name, side.name, bytes, trial.bus_bytes, {}});
      }
      double spent = 0.0;  // the same on all ranks
      for (int64_t round = 0; round <= work.rounds; ++round) {
        const double limit = round > kLeastRounds ? work.limit_seconds : 3.0 * work.limit_seconds;
        if (round > 1 && spent > limit) break;
        for (size_t s = 0; s < sides.size(); ++s) {
          trial.prepare();
          std::this_thread::sleep_for(std::chrono::duration<double>(work.rest_seconds));
          const double seconds = timed(comm, work.one_host, [&] { trial.run(sides[s]); });
          check_result(comm, trial, sides[s], bytes);
          spent += seconds;
          if (round > 0) out[first + s].seconds.add(seconds);
        }
        if (round == 1 && spent > 2.0 * work.limit_seconds) too_long.insert(trial.name);
      }
    }
  }
  return out;
}

}  // namespace memwall
