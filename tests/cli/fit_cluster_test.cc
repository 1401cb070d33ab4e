// What was timed, put into a cluster's description and read back from its file.
#include "runtime/cli/fit_cluster.h"

#include <gtest/gtest.h>

#include <fstream>

#include "runtime/base/error.h"
#include "runtime/cli/machine.h"
#include "runtime/config/cluster.h"
#include "runtime/cost/op_cost.h"
#include "tests/data/temporary_folder.h"

namespace memwall::test {
namespace {

const TimedOn kHere{"a processor", 2, 4};

// 1e11 FLOP/s of products, 1e10 bytes/s of copies, 5e9 FLOP/s of GELU.
std::vector<TimedOp> step_of(int64_t width) {
  const auto seconds = [](int64_t amount, double rate) {
    return static_cast<double>(amount) / rate;
  };
  const int64_t flops = 2 * width * width * width, bytes = 8 * width * width,
                gelu = 5 * width * width;
  return {{Op::kGemm, DType::kF32, {flops, 3 * bytes, 1, seconds(flops, 1e11)}},
          {Op::kCopy, DType::kF32, {0, bytes, 1, seconds(bytes, 1e10)}},
          {Op::kGelu, DType::kF32, {gelu, bytes, 1, seconds(gelu, 5e9)}}};
}

double seconds_of(const Machine& m, const TimedOp& t) {
  return op_seconds(m, {t.op, t.dtype, t.point.flops, t.point.dram_bytes, t.point.launches})
      .seconds();
}

std::string message_of(auto action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

class FitCluster : public testing::Test {
 protected:
  config::Cluster described() const { return cluster_of(step_of(512), kHere, 1'000'000); }
  // Through a file, as every command does it.
  config::Cluster read_back(const config::Cluster& cluster) {
    write_fit(file_, cluster, "made");
    return load_cluster(file_);
  }
  Machine machine_read_back(const config::Cluster& cluster) {
    return machine_of(read_back(cluster), "file");
  }

  TemporaryFolder folder_;
  const std::string file_ = folder_.at("measured.textproto");
};

TEST_F(FitCluster, GeneralRatesAreThoseOfTheSteps) {
  const Machine m = machine_read_back(described());
  EXPECT_NEAR(m.gemm_flops.fp32, 1e11, 1.0);
  EXPECT_EQ(m.gemm_flops.fp16, 0.0);
  EXPECT_NEAR(m.vector_flops, 5e9, 1.0);
  EXPECT_NEAR(m.dram_bandwidth, 1e10, 1.0);
  EXPECT_NEAR(m.link.bandwidth, 5e9, 1.0);  // a copy reads and writes
  EXPECT_EQ(m.memory_bytes, 1'000'000);
  EXPECT_EQ(m.devices, 4);
  EXPECT_EQ(m.nics, 0);
  EXPECT_EQ(topology_of(m, 4).nodes, 1);
  for (const TimedOp& t : step_of(512)) {
    EXPECT_NEAR(seconds_of(m, t), t.point.seconds, 1e-12 * t.point.seconds);
  }
}

// The best of the products is the peak, all together the fraction.
TEST_F(FitCluster, SlowProductsLowerTheFraction) {
  std::vector<TimedOp> timed = step_of(512);
  timed.push_back({Op::kGemm, DType::kF32, {1'000'000'000, 1000, 1, 2e-2}});  // 5e10 FLOP/s
  const config::Cluster cluster = cluster_of(timed, kHere, 1);
  EXPECT_NEAR(cluster.device().peak_flops().fp32(), 1e11, 1.0);
  const double flops = 2.0 * 512 * 512 * 512 + 1e9;
  const double seconds = timed[0].point.seconds + 2e-2;
  EXPECT_NEAR(cluster.device().gemm_fraction(), flops / seconds / 1e11, 1e-9);
}

TEST_F(FitCluster, NoProductIsNoDescription) {
  const std::vector<TimedOp> copies = {{Op::kCopy, DType::kF32, {0, 8, 1, 1e-6}}};
  EXPECT_EQ(message_of([&] { cluster_of(copies, kHere, 1); }),
            "no matrix product was timed (a configuration with at least one layer)");
}

TEST_F(FitCluster, NewTimesReplaceThoseOfTheSameWorkAndJoinTheOthers) {
  config::Cluster cluster = read_back(described());
  std::vector<TimedOp> again = step_of(512);
  for (TimedOp& t : again) t.point.seconds *= 2;
  again.push_back(step_of(1024)[0]);
  add_ops(cluster, again);
  const Machine m = machine_read_back(cluster);
  for (const TimedOp& t : again)
    EXPECT_NEAR(seconds_of(m, t), t.point.seconds, 1e-12 * t.point.seconds);
  int64_t timed = 0;
  for (const config::OpRate& rate : cluster.device().op_rate()) timed += rate.timed_size();
  EXPECT_EQ(timed, 4);
  EXPECT_EQ(cluster.device().op_rate_size(), 3);
  EXPECT_NEAR(m.dram_bandwidth, 5e9, 1.0);  // the faster copy is not true any more
  // Another type is another rate, and an older one stays as it was.
  add_ops(cluster, {{Op::kGemm, DType::kF16, {1'000'000, 100, 1, 1e-6}}});
  EXPECT_EQ(cluster.device().op_rate_size(), 4);
  EXPECT_NEAR(cluster.device().peak_flops().fp16(), 1e12, 1.0);
  EXPECT_NEAR(cluster.device().peak_flops().fp32(), 1e11, 1.0);
}

// By hand: pairwise between 4 ranks of one node, 3 s / b + 3 a / 3.
TimedCollective gathers(double bandwidth, double latency, const std::vector<int64_t>& parts,
                        Transport transport = Transport::kMpi) {
  TimedCollective out{Op::kAllGather, Algorithm::kPairwise, transport, {}};
  for (const int64_t s : parts) {
    out.points.push_back({4, 4, s, 3 * static_cast<double>(s) / bandwidth + latency});
  }
  return out;
}

TEST_F(FitCluster, CollectivesJoinAndReplaceAndGiveTheLink) {
  config::Cluster cluster = read_back(described());
  add_collectives(cluster, file_, {gathers(2e9, 1e-5, {64, 4096, 1 << 20})});
  Machine m = machine_read_back(cluster);
  EXPECT_NEAR(m.link.bandwidth, 2e9, 1e3);
  EXPECT_NEAR(m.link.latency_seconds, 1e-5, 1e-11);
  // One size again, twice as slow, and a new one.
  add_collectives(cluster, file_, {gathers(1e9, 2e-5, {4096, 1 << 22})});
  ASSERT_EQ(cluster.node().collective_rate_size(), 1);
  EXPECT_EQ(cluster.node().collective_rate(0).timed_size(), 4);
  m = machine_read_back(cluster);
  const auto seconds = [&](int64_t s, Transport transport) {
    return transfer_cost(m, topology_of(m, 4), {.transport = transport, .part_bytes = s}).seconds();
  };
  EXPECT_NEAR(seconds(64, Transport::kMpi), 3 * 64 / 2e9 + 1e-5, 1e-15);
  EXPECT_NEAR(seconds(4096, Transport::kMpi), 3 * 4096 / 1e9 + 2e-5, 1e-15);
  // Shared memory is a rate of its own, and what a node has in general.
  add_collectives(cluster, file_, {gathers(8e9, 1e-6, {64, 1 << 20}, Transport::kSharedMemory)});
  m = machine_read_back(cluster);
  EXPECT_EQ(cluster.node().collective_rate_size(), 2);
  EXPECT_NEAR(m.link.bandwidth, 8e9, 1e4);
  EXPECT_NEAR(seconds(64, Transport::kMpi), 3 * 64 / 2e9 + 1e-5, 1e-15);
}

// A ring between two nodes of 4: 7 (A + s / B).
TEST_F(FitCluster, NicsComeWithTheFirstCollectiveBetweenNodes) {
  config::Cluster cluster = read_back(described());
  EXPECT_NE(message_of([&] { topology_of(machine_of(cluster, file_), 8); }), "");
  TimedCollective ring{Op::kAllGather, Algorithm::kRing, Transport::kMpi, {}};
  for (const double s : {64.0, 1e6}) {
    ring.points.push_back({8, 4, static_cast<int64_t>(s), 7 * (5e-5 + s / 1e8)});
  }
  add_collectives(cluster, file_, {ring});
  const Machine m = machine_read_back(cluster);
  EXPECT_EQ(topology_of(m, 8).nodes, 2);
  EXPECT_EQ(m.nics, 1);
  EXPECT_NEAR(m.nic.bandwidth, 1e8, 1e2);
  EXPECT_NEAR(m.nic.latency_seconds, 5e-5, 1e-11);
  EXPECT_NEAR(m.link.bandwidth, 5e9, 1.0);  // as it was
}

TEST_F(FitCluster, WhatIsWrittenIsReadBack) {
  config::Cluster cluster = described();
  cluster.mutable_device()->set_step_seconds(1.25e-4);
  cluster.mutable_device()->set_skew_seconds(3e-5);
  add_collectives(cluster, file_, {gathers(2e9, 1e-5, {64, 4096})});
  const Machine written = machine_of(cluster, "file");
  EXPECT_EQ(machine_read_back(cluster), written);
  EXPECT_EQ(machine_read_back(load_cluster(file_)), written);  // and once more
  EXPECT_EQ(written.step_seconds, 1.25e-4);
  const std::vector<std::string> head = cluster_header(file_);
  ASSERT_EQ(head.size(), 2U);
  for (const std::string& line : head) EXPECT_TRUE(line.ends_with(": made")) << line;
}

TEST_F(FitCluster, OtherMachinesAreRefused) {
  const config::Cluster cluster = described();
  EXPECT_EQ(message_of([&] { check_describes(cluster, "c", kHere); }), "");
  EXPECT_EQ(message_of([&] {
              check_describes(cluster, "c", {"a processor", 1, 4});
            }),
            "c: describes devices of \"2 threads of a processor\", and here are devices of \"1 "
            "thread of a processor\" (name another file, or start as it says)");
  EXPECT_EQ(message_of([&] {
              check_describes(cluster, "c", {"a processor", 2, 2});
            }),
            "c: describes nodes of 4 ranks, and here are nodes of 2 ranks (name another file, or "
            "start as it says)");
  const std::string shipped =
      std::string(MEMWALL_SOURCE_DIR) + "/configs/clusters/cpu-host.textproto";
  EXPECT_NE(message_of([&] { check_describes(load_cluster(shipped), shipped, kHere); }), "");
  config::Cluster other = described();
  TimedCollective two = gathers(1e9, 0.0, {64});
  two.points[0].ranks_a_node = 2;
  EXPECT_EQ(message_of([&] { add_collectives(other, "c", {two}); }),
            "c: describes nodes of 4 ranks, and these have 2 (start as many on each host, or name "
            "another file)");
}

}  // namespace
}  // namespace memwall::test
