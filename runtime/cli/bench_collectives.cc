// `memwall bench collectives`: our transports beside the MPI library's own collectives.
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "comm/make_communicator.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/collective_bench.h"
#include "runtime/cli/environment.h"
#include "runtime/cli/fit_cluster.h"
#include "runtime/cli/tables.h"
#include "runtime/config/cluster.h"
#include "runtime/config/units.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kTimeoutSeconds = 120.0;
constexpr int64_t kMostBytes = int64_t{1} << 30;
constexpr const char* kMpiLibrary = "mpi_library";
// Of a fit: about what a collective, size and side takes; and scalars are all that is ever
// all-reduced.
constexpr double kFitSeconds = 1.0, kFitRestSeconds = 3e-3;
constexpr int64_t kMostScalarBytes = int64_t{4} << 10;

// One of our ways to go, which a description can have.
struct OwnSide {
  Algorithm algorithm = Algorithm::kPairwise;
  Transport transport = Transport::kMpi;
  std::unique_ptr<Communicator> comm{};  // null: that of the side before
  std::string name() const {
    std::string out = transport == Transport::kMpi ? "mpi" : "shared_memory";
    if (algorithm != Algorithm::kPairwise) out += fmt::format(" {}", name_of(algorithm));
    return out;
  }
};

// A few bytes (latency) to some MiB (bandwidth), whole for every rank.
std::vector<int64_t> default_sizes(int64_t ranks, bool fit) {
  std::vector<int64_t> out;
  const int64_t least = least_bytes(ranks);
  std::vector<int64_t> wanted = {64, 64 << 10, 1 << 20, 16 << 20};
  if (fit) wanted = {64, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20};
  for (const int64_t about : wanted) {
    const int64_t bytes = std::max(least, about / least * least);
    if (out.empty() || bytes > out.back()) out.push_back(bytes);
  }
  return out;
}

std::vector<int64_t> sizes_of(const BenchCollectivesOptions& options, int64_t ranks) {
  if (options.bytes.empty()) return default_sizes(ranks, !options.fit.empty());
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
    table.add(
        {t.collective, bytes_text(t.bytes), t.side, fmt::format("{:.1f}", 1e6 * t.seconds.median()),
         fmt::format("{:.1f}", 1e6 * t.seconds.min()),
         fmt::format("{:.2f}", 1e-9 * static_cast<double>(t.bus_bytes) / t.seconds.median()),
         library == nullptr
             ? "-"
             : fmt::format("{:.2f}x", library->seconds.median() / t.seconds.median()),
         library == nullptr ? "-"
                            : fmt::format("{:.2f}x", library->seconds.min() / t.seconds.min())});
  }
  const bool oversubscribed = job.ranks_on_host() > job.cores();
  return fmt::format(
      "{} ranks, {} on this host of {} cores{}; {} rounds, every result verified by checksum\n"
      "GB/s: bytes that a rank must receive at least, over the median; \"against MPI\":\n"
      "how many times as fast as mpi_library, by medians and by fastest rounds\n\n{}",
      job.ranks(), job.ranks_on_host(), job.cores(), oversubscribed ? " (oversubscribed)" : "",
      rounds, table.text());
}

// Messages, on several hosts of several ranks each with windows beside them; windows alone on one
// host. Collective.
std::vector<OwnSide> own_sides(const Job& job) {
  const Hosting hosting = hosting_of(job.session());
  const bool one_host = hosting.ranks_on_host == hosting.ranks;
  const auto connect = [&](const Fabric& fabric) {
    return make_communicator(job.session(), kTimeoutSeconds, fabric);
  };
  const bool two_levels = !one_host && hosting.ranks_a_node > 1;
  std::vector<OwnSide> out(2);
  out[0].comm = connect({Transport::kMpi, two_levels ? hosting.ranks_a_node : 1});
  out[1].algorithm = Algorithm::kRing;
  if (two_levels) out.push_back({.algorithm = Algorithm::kTwoLevel});
  if (one_host) {
    out.push_back({.transport = Transport::kSharedMemory,
                   .comm = connect({Transport::kSharedMemory, job.ranks()})});
  }
  return out;
}

// What of `all` a description can have.
std::vector<TimedCollective> timed_of(const std::vector<OwnSide>& own,
                                      const std::vector<CollectiveTimes>& all, const Job& job) {
  const Hosting hosting = hosting_of(job.session());
  std::vector<TimedCollective> out;
  for (const OwnSide& side : own) {
    for (const Op op : {Op::kAllGather, Op::kReduceScatter, Op::kAllReduce}) {
      if (op == Op::kAllReduce && side.algorithm != Algorithm::kPairwise) continue;
      TimedCollective timed{op, side.algorithm, side.transport, {}};
      for (const CollectiveTimes& t : all) {
        if (t.side != side.name() || t.collective != op_name(op)) continue;
        const int64_t part = op == Op::kReduceScatter ? t.bytes / hosting.ranks : t.bytes;
        timed.points.push_back({hosting.ranks, hosting.ranks_a_node, part, t.seconds.mean()});
      }
      if (!timed.points.empty()) out.push_back(std::move(timed));
    }
  }
  return out;
}

// InputError where nothing can be added to the file.
config::Cluster given_cluster(const std::string& file, const Job& job) {
  if (!std::filesystem::exists(file)) {
    throw InputError("is not there", file,
                     "memwall bench machine CONFIG --fit makes it, started in the same way");
  }
  config::Cluster out = load_cluster(file);
  check_describes(out, file, {processor(), job.threads(), hosting_of(job.session()).ranks_a_node});
  return out;
}

void write_times(const std::string& file, const std::vector<TimedCollective>& timed,
                 const Job& job) {
  config::Cluster cluster = given_cluster(file, job);
  add_collectives(cluster, file, timed);
  write_fit(file, cluster,
            fmt::format("memwall bench collectives, {} ranks, {} on this host", job.ranks(),
                        job.ranks_on_host()));
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
  run_together(job.comm(), [&] {
    sizes = sizes_of(options, job.ranks());
    // A file that cannot be used is refused before the work.
    if (job.speaks() && !options.fit.empty()) given_cluster(options.fit, job);
  });
  const bool one_host = job.ranks_on_host() == job.ranks();

  std::vector<OwnSide> own = own_sides(job);
  std::vector<CollectiveSide> sides;
  Communicator* comm = nullptr;
  for (const OwnSide& side : own) {
    if (side.comm) comm = side.comm.get();
    sides.push_back(side_of(side.name(), *comm, side.algorithm));
  }
  if (options.fit.empty()) sides.push_back(mpi_library_side());
  CollectiveRounds work{.sizes = sizes, .rounds = options.rounds, .one_host = one_host};
  if (!options.fit.empty()) {
    work.rest_seconds = kFitRestSeconds;
    work.limit_seconds = kFitSeconds * static_cast<double>(sides.size());
    work.wanted = [](const std::string& collective, int64_t bytes) {
      return collective != "broadcast" && (collective != "all_reduce" || bytes <= kMostScalarBytes);
    };
  }
  const std::vector<CollectiveTimes> all = measure_collectives(job.comm(), sides, work);
  run_together(job.comm(), [&] {
    if (options.fit.empty() || !job.speaks()) return;
    write_times(options.fit, timed_of(own, all, job), job);
  });
  if (!job.speaks()) return ExitCode::kDone;
  fmt::print("{}", options.json ? to_json(all, options.rounds, job).dump(2) + '\n'
                                : to_text(all, options.rounds, job));
  return ExitCode::kDone;
}

}  // namespace memwall
