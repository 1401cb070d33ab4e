// Planned = counted = seen: the formulas, the ledger and what passed the lowest level of a
// transport, MPI's profiling interface or the accesses to windows.
#include <gtest/gtest.h>

#include "comm/mpi/mpi_communicator.h"
#include "comm/self/self_communicator.h"
#include "tests/comm/comm_fixture.h"
#include "tests/support/mpi_world.h"
#include "tests/support/pmpi_shim.h"
#include "tests/support/window_shim.h"

namespace memwall::test {
namespace {

struct Call {
  Collective kind;
  int64_t payload_bytes, wire_bytes;
};

// Runs calls of all kinds on `comm` and returns what each should have cost by formula.
std::vector<Call> run_calls(Communicator& comm) {
  const int64_t ranks = comm.size();
  std::vector<Call> expected;
  for (const int64_t shard : {1, 999, 1500000}) {
    const int64_t bytes = shard * size_of(DType::kF32);
    std::vector<float> whole(static_cast<size_t>(shard * ranks), 1.0f);
    float* own = whole.data() + comm.rank() * shard;
    Receive receive = scatter_receive(comm, shard, DType::kF32);
    comm.wait(comm.reduce_scatter(whole.data(), own, shard, DType::kF32, receive.data()));
    comm.wait(comm.all_gather(own, whole.data(), bytes));
    expected.push_back(
        {Collective::kReduceScatter, ranks * bytes, reduce_scatter_wire_bytes(ranks, bytes)});
    expected.push_back(
        {Collective::kAllGather, ranks * bytes, all_gather_wire_bytes(ranks, bytes)});
  }
  std::vector<double> scalars(19, 1.0);
  Receive receive(all_reduce_receive_bytes(ranks, 19));
  comm.wait(comm.all_reduce(scalars.data(), 19, receive.data()));
  expected.push_back({Collective::kAllReduce, 19 * 8, all_reduce_wire_bytes(ranks, 19)});
  return expected;
}

// What should have been sent; checks the ledger, which was at `before`, against it.
int64_t check_ledger(const Communicator& comm, const Ledger& before,
                     const std::vector<Call>& expected) {
  Ledger total = before;
  int64_t wire_bytes = 0;
  for (const Call& call : expected) {
    total[call.kind].calls += 1;
    total[call.kind].payload_bytes += call.payload_bytes;
    total[call.kind].wire_bytes += call.wire_bytes;
    wire_bytes += call.wire_bytes;
  }
  EXPECT_EQ(comm.ledger(), total);
  EXPECT_EQ(wire_bytes > 0, comm.size() > 1);
  return wire_bytes;
}

TEST(Traffic, LedgerAndShimAgreeWithTheFormulas) {
  Communicator& comm = world();
  comm.barrier();
  const Ledger before = comm.ledger();
  reset_pmpi_counts();
  const std::vector<Call> expected = run_calls(comm);
  const PmpiCounts seen = pmpi_counts();
  EXPECT_EQ(seen.bytes, check_ledger(comm, before, expected));
  EXPECT_EQ(seen.other_calls, 0);
}

// Through shared windows: what is laid for others is what the formulas say, nothing passes MPI, and
// each of the others has read its equal share of it.
TEST(Traffic, WindowsCarryWhatTheFormulasSay) {
  Communicator& comm = shared_world();
  comm.barrier();
  const Ledger before = comm.ledger();
  reset_pmpi_counts();
  reset_window_counts();
  const std::vector<Call> expected = run_calls(comm);
  WindowCounts seen = window_counts();
  const int64_t wire_bytes = check_ledger(comm, before, expected);
  EXPECT_EQ(seen.sent_bytes, wire_bytes);
  EXPECT_EQ(pmpi_counts().messages + pmpi_counts().other_calls, 0);
  const auto ranks = static_cast<size_t>(comm.size());
  std::vector<int64_t> due(ranks, comm.size() > 1 ? wire_bytes / (comm.size() - 1) : 0);
  due[static_cast<size_t>(comm.rank())] = 0;
  seen.read_bytes.resize(ranks);
  EXPECT_EQ(seen.read_bytes, due);
}

TEST(Traffic, FormulasInNumbers) {
  EXPECT_EQ(all_gather_wire_bytes(4, 100), 300);
  EXPECT_EQ(reduce_scatter_wire_bytes(4, 100), 300);
  EXPECT_EQ(all_reduce_wire_bytes(4, 10), 240);
  EXPECT_EQ(all_reduce_wire_bytes(1, 10), 0);
  EXPECT_EQ(all_reduce_receive_bytes(4, 10), 320);
  EXPECT_EQ(window_bytes_per_rank(1), 0);
  EXPECT_EQ(window_bytes_per_rank(8), 4 << 20);
  // One block where it fits, else 4 MiB over the other ranks, but never under 1024 elements each.
  EXPECT_EQ(reduce_scatter_receive_bytes(1, 1000, DType::kF32), 0);
  EXPECT_EQ(reduce_scatter_receive_bytes(4, 1000, DType::kF32), 3 * 4000);
  EXPECT_EQ(reduce_scatter_receive_bytes(2, 1 << 30, DType::kF16), 4 << 20);
  for (const int64_t ranks : {2, 3, 4, 7, 64, 257}) {
    EXPECT_LE(reduce_scatter_receive_bytes(ranks, 1 << 30, DType::kF32), 4 << 20);
  }
  EXPECT_EQ(reduce_scatter_receive_bytes(1025, 1 << 30, DType::kF64), 1024 * 1024 * 8);
}

void check_blocking_helpers(Communicator& comm) {
  comm.barrier();
  const Ledger before = comm.ledger();
  reset_pmpi_counts();
  reset_window_counts();
  double datum = 1.0;
  comm.broadcast(&datum, sizeof(datum), 0);
  comm.barrier();
  comm.gather_all({1.0, 2.0});
  comm.gather_text("text");
  Ledger after = comm.ledger();
  const int64_t wire_bytes =
      after[Collective::kOther].wire_bytes - before[Collective::kOther].wire_bytes;
  EXPECT_EQ(pmpi_counts().bytes + window_counts().sent_bytes, wire_bytes);
  EXPECT_EQ(pmpi_counts().other_calls, 0);
  after[Collective::kOther] = before[Collective::kOther];
  EXPECT_EQ(after, before);
}

TEST(Traffic, BlockingHelpersStandApart) {
  check_blocking_helpers(world());
  check_blocking_helpers(shared_world());
}

TEST(Traffic, LongMessagesAreSplit) {
  if (session() == nullptr) GTEST_SKIP() << "for MPI";
  constexpr int64_t kMaxBytes = 4096;
  constexpr int64_t kShardBytes = 10 * kMaxBytes + 8;
  MpiCommunicator comm(*session(), {.timeout_seconds = 60, .max_message_bytes = kMaxBytes});
  const int ranks = comm.size();
  std::vector<char> whole(static_cast<size_t>(ranks * kShardBytes), static_cast<char>(comm.rank()));
  reset_pmpi_counts();
  comm.wait(comm.all_gather(whole.data() + comm.rank() * kShardBytes, whole.data(), kShardBytes,
                            Algorithm::kPairwise));
  EXPECT_EQ(pmpi_counts().messages, 11 * (ranks - 1));
  EXPECT_EQ(pmpi_counts().bytes, all_gather_wire_bytes(ranks, kShardBytes));
  EXPECT_LE(pmpi_counts().largest_message, kMaxBytes);
  for (size_t i = 0; i < whole.size(); ++i) {
    ASSERT_EQ(whole[i], static_cast<char>(i / static_cast<size_t>(kShardBytes)));
  }
}

TEST(Traffic, MessagesStayBelowTheLimitOfMpiCounts) {
  EXPECT_EQ(MpiOptions{}.max_message_bytes, int64_t{64} << 20);
}

}  // namespace
}  // namespace memwall::test
