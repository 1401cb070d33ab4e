// `memwall bench collectives`: our transports beside the MPI library's own collectives.
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "comm/make_communicator.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/collective_bench.h"
#include "runtime/cli/tables.h"
#include "runtime/config/units.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kTimeoutSeconds = 120.0;
constexpr int64_t kMostBytes = int64_t{1} << 30;
constexpr const char* kMpiLibrary = "mpi_library";

// A few bytes (latency) to some MiB (bandwidth), whole for every rank.
std::vector<int64_t> default_sizes(int64_t ranks) {
  std::vector<int64_t> out;
  const int64_t least = least_bytes(ranks);
  for (const int64_t about :
       {int64_t{64}, int64_t{64} << 10, int64_t{1} << 20, int64_t{16} << 20}) {
    out.push_back(std::max(least, about / least * least));
  }
  return out;
}

std::vector<int64_t> sizes_of(const BenchCollectivesOptions& options, int64_t ranks) {
  if (options.bytes.empty()) return default_sizes(ranks);
  std::vector<int64_t> out;
  for (const std::string& text : options.bytes) {
    const std::string where = "--bytes " + text;
    int64_t bytes = 0;
    try {
      bytes = parse_bytes(text);
    } catch (const InputError& error) {
      throw InputError(error.what(), where);
    }
    const int64_t least = least_bytes(ranks);
    if (bytes % least != 0 || bytes > kMostBytes) {
      throw InputError("is no size for " + std::to_string(ranks) + " ranks", where,
                       fmt::format("multiples of {} up to 1GiB", least));
    }
    out.push_back(bytes);
  }
  return out;
}

const CollectiveTimes* library_beside(const std::vector<CollectiveTimes>& all,
                                      const CollectiveTimes& one) {
  for (const CollectiveTimes& t : all) {
    if (t.side == kMpiLibrary && t.collective == one.collective && t.bytes == one.bytes) return &t;
  }
  return nullptr;
}

Json to_json(const std::vector<CollectiveTimes>& all, int64_t rounds, const Job& job) {
  Json out;
  out["ranks"] = job.ranks();
  out["ranks_on_host"] = job.ranks_on_host();
  out["cores"] = job.cores();
  out["rounds"] = rounds;
  out["collectives"] = Json::array();
  for (const CollectiveTimes& t : all) {
    Json one = {{"collective", t.collective}, {"transport", t.side}, {"bytes", t.bytes}};
    one["seconds"] = t.seconds.median();
    one["seconds_min"] = t.seconds.min();
    one["bus_bytes"] = t.bus_bytes;
    one["bytes_per_second"] = static_cast<double>(t.bus_bytes) / t.seconds.median();
    one["verified"] = true;  // a wrong result ends the command
    if (const CollectiveTimes* library = library_beside(all, t)) {
      one["speedup"] = library->seconds.median() / t.seconds.median();
      one["speedup_min"] = library->seconds.min() / t.seconds.min();
    }
    out["collectives"].push_back(std::move(one));
  }
  return out;
}

std::string to_text(const std::vector<CollectiveTimes>& all, int64_t rounds, const Job& job) {
  TextTable table({"collective", "input a rank", "transport", "median us", "fastest us", "GB/s",
                   "against MPI", "of fastest"});
  for (const CollectiveTimes& t : all) {
    const CollectiveTimes* library = library_beside(all, t);
    table.add({t.collective, bytes_text(t.bytes), t.side,
               fmt::format("{:.1f}", 1e6 * t.seconds.median()),
               fmt::format("{:.1f}", 1e6 * t.seconds.min()),
               fmt::format("{:.2f}", 1e-9 * static_cast<double>(t.bus_bytes) / t.seconds.median()),
               fmt::format("{:.2f}x", library->seconds.median() / t.seconds.median()),
               fmt::format("{:.2f}x", library->seconds.min() / t.seconds.min())});
  }
  const bool oversubscribed = job.ranks_on_host() > job.cores();
  return fmt::format(
      "{} ranks, {} on this host of {} cores{}; {} rounds, every result verified by checksum\n"
      "GB/s: bytes that a rank must receive at least, over the median; \"against MPI\":\n"
      "how many times as fast as mpi_library, by medians and by fastest rounds\n\n{}",
      job.ranks(), job.ranks_on_host(), job.cores(), oversubscribed ? " (oversubscribed)" : "",
      rounds, table.text());
}

}  // namespace

CollectiveSide mpi_library_side() {
  const auto check_status = [](int status, const char* call) {
    if (status != MPI_SUCCESS) throw Error(fmt::format("{} failed with status {}", call, status));
  };
  const auto count_of = [](int64_t count) { return static_cast<int>(count); };
  return {.name = kMpiLibrary,
          .reduce_scatter =
              [=](const float* whole, float* shard, int64_t part, std::byte*) {
                check_status(MPI_Reduce_scatter_block(whole, shard, count_of(part), MPI_FLOAT,
                                                      MPI_SUM, MPI_COMM_WORLD),
                             "MPI_Reduce_scatter_block");
              },
          .all_gather =
              [=](const float* shard, float* whole, int64_t part) {
                check_status(MPI_Allgather(shard, count_of(part), MPI_FLOAT, whole, count_of(part),
                                           MPI_FLOAT, MPI_COMM_WORLD),
                             "MPI_Allgather");
              },
          .all_reduce =
              [=](double* values, int64_t count, std::byte*) {
                check_status(MPI_Allreduce(MPI_IN_PLACE, values, count_of(count), MPI_DOUBLE,
                                           MPI_SUM, MPI_COMM_WORLD),
                             "MPI_Allreduce");
              },
          .broadcast =
              [=](std::byte* data, int64_t bytes) {
                check_status(MPI_Bcast(data, count_of(bytes), MPI_BYTE, 0, MPI_COMM_WORLD),
                             "MPI_Bcast");
              }};
}

ExitCode bench_collectives_verb(const BenchCollectivesOptions& options, Job& job) {
  if (job.ranks() < 2) {
    throw InputError("needs several ranks", "bench collectives",
                     "e.g. mpirun -np 4 memwall bench collectives");
  }
  job.connect(kTimeoutSeconds);
  std::vector<int64_t> sizes;
  run_together(job.comm(), [&] { sizes = sizes_of(options, job.ranks()); });
  const bool one_host = job.ranks_on_host() == job.ranks();

  const auto messages = make_communicator(job.session(), kTimeoutSeconds);
  std::vector<CollectiveSide> sides = {side_of("mpi", *messages)};
  std::unique_ptr<Communicator> windows;
  if (one_host) {
    windows = make_communicator(job.session(), kTimeoutSeconds,
                                Fabric{Transport::kSharedMemory, job.ranks()});
    sides.push_back(side_of("shared_memory", *windows));
  }
  sides.push_back(mpi_library_side());
  const std::vector<CollectiveTimes> all =
      measure_collectives(job.comm(), sides, sizes, options.rounds, one_host);
  if (!job.speaks()) return ExitCode::kDone;
  fmt::print("{}", options.json ? to_json(all, options.rounds, job).dump(2) + '\n'
                                : to_text(all, options.rounds, job));
  return ExitCode::kDone;
}

}  // namespace memwall
