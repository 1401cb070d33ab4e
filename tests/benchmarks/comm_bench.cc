// Shared windows against Open MPI's own collectives, in one run, on buffers in each rank's arena:
//
//   mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -np 4 comm_bench [MIB
//   [ROUNDS]]
//
// A round runs each call once on either side. Its time is from when the first rank enters to when
// the last one leaves. The table shows medians, and the fastest rounds: other load on the machine
// moves those less. Results are checked element by element.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "comm/make_communicator.h"
#include "memory/arena.h"

namespace {

using namespace memwall;

constexpr double kTimeoutSeconds = 60.0;

double now_seconds() {  // one clock for all processes of the host
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Small whole numbers: their sums are exact in any order.
float value(int rank, int64_t i) {
  return static_cast<float>((i * 7 + rank * 13) % 97 - 48);
}

float sum_of_values(int ranks, int64_t i) {
  float sum = 0.0f;
  for (int rank = 0; rank < ranks; ++rank) sum += value(rank, i);
  return sum;
}

struct Case {
  std::string name;
  std::function<void()> prepare, mpi, shared;
  std::function<bool()> is_right;
};

// Seconds of the job, the same on all ranks.
double timed(const std::function<void()>& body) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double begin = now_seconds();
  body();
  double ends[2] = {-begin, now_seconds()}, latest[2];
  MPI_Allreduce(ends, latest, 2, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return latest[1] + latest[0];
}

bool right_everywhere(const Case& one) {
  int mine = one.is_right() ? 1 : 0, all = 0;
  MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  return all == 1;
}

// False where a result was wrong.
bool run(const Case& one, int rounds, bool prints) {
  bool right = true;
  std::vector<double> mpi, shared;
  for (int round = 0; round < rounds; ++round) {
    one.prepare();
    mpi.push_back(timed(one.mpi));
    right = right_everywhere(one) && right;
    one.prepare();
    shared.push_back(timed(one.shared));
    right = right_everywhere(one) && right;
  }
  std::sort(mpi.begin(), mpi.end());
  std::sort(shared.begin(), shared.end());
  if (prints) {
    std::printf("%-42s", one.name.c_str());
    for (const size_t at : {mpi.size() / 2, size_t{0}}) {
      std::printf(" %9.3f %9.3f %6.2f", 1e3 * mpi[at], 1e3 * shared[at], mpi[at] / shared[at]);
    }
    std::printf("  %s\n", right ? "right" : "WRONG");
    std::fflush(stdout);
  }
  return right;
}

Case reduce_scatter(Communicator& comm, float* whole, float* shard, int64_t elements) {
  const int64_t part = elements / comm.size();
  Case one;
  one.name = "reduce-scatter, " + std::to_string(elements >> 18) + " MiB of input a rank";
  one.prepare = [=, &comm] {
    for (int64_t i = 0; i < elements; ++i) whole[i] = value(comm.rank(), i);
    std::fill(shard, shard + part, -1.0f);
  };
  one.mpi = [=] {
    MPI_Reduce_scatter_block(whole, shard, static_cast<int>(part), MPI_FLOAT, MPI_SUM,
                             MPI_COMM_WORLD);
  };
  one.shared = [=, &comm] {
    comm.wait(comm.reduce_scatter(whole, shard, part, DType::kF32, nullptr));
  };
  one.is_right = [=, &comm] {
    for (int64_t i = 0; i < part; ++i) {
      if (shard[i] != sum_of_values(comm.size(), comm.rank() * part + i)) return false;
    }
    return true;
  };
  return one;
}

Case all_gather(Communicator& comm, float* whole, float* shard, int64_t part) {
  Case one;
  one.name = "all-gather, " + std::to_string(part >> 18) + " MiB in, " +
             std::to_string(part * comm.size() >> 18) + " MiB out a rank";
  one.prepare = [=, &comm] {
    for (int64_t i = 0; i < part; ++i) shard[i] = value(comm.rank(), i);
    std::fill(whole, whole + part * comm.size(), -1.0f);
  };
  one.mpi = [=] {
    MPI_Allgather(shard, static_cast<int>(part), MPI_FLOAT, whole, static_cast<int>(part),
                  MPI_FLOAT, MPI_COMM_WORLD);
  };
  one.shared = [=, &comm] {
    comm.wait(comm.all_gather(shard, whole, part * size_of(DType::kF32)));
  };
  one.is_right = [=, &comm] {
    for (int64_t i = 0; i < part * comm.size(); ++i) {
      if (whole[i] != value(static_cast<int>(i / part), i % part)) return false;
    }
    return true;
  };
  return one;
}

}  // namespace

int main(int argc, char** argv) {
  if (!launched_by_mpi()) {
    std::fprintf(stderr, "comm_bench: start it with mpirun\n");
    return EXIT_FAILURE;
  }
  const int64_t mib = argc > 1 ? std::atoll(argv[1]) : 16;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 51;
  MpiSession session;
  const auto comm = make_communicator(&session, kTimeoutSeconds, Transport::kSharedMemory);
  const int64_t elements = mib << 18, ranks = comm->size();
  Arena arena((ranks + 1) * elements * size_of(DType::kF32));
  auto* const whole = reinterpret_cast<float*>(arena.data());
  float* const shard = whole + ranks * elements;
  const bool prints = comm->rank() == 0;
  if (prints) {
    std::printf("%d ranks, %d rounds, ms\n%-42s %9s %9s %6s %9s %9s %6s\n", comm->size(), rounds,
                "", "MPI", "ours", "ratio", "fastest", "ours", "ratio");
  }
  bool right = run(reduce_scatter(*comm, whole, shard, elements), rounds, prints);
  right = run(all_gather(*comm, whole, shard, elements / ranks), rounds, prints) && right;
  right = run(all_gather(*comm, whole, shard, elements), rounds, prints) && right;
  return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
