// The cost model beside arithmetic done by hand, and beside message lists written out rank by rank.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "comm/mpi/mpi_communicator.h"
#include "runtime/base/error.h"
#include "runtime/cost/collective_cost.h"
#include "runtime/cost/op_cost.h"

namespace memwall::test {
namespace {

TEST(TransferCost, KnowsHowManyExchangesAreUnderWay) {
  EXPECT_EQ(kExchangesInFlight, MpiOptions{}.exchanges_in_flight);
}

// Two NICs of 10 GB/s for nodes of eight: 20 GB/s a node.
Machine machine() {
  return {.name = "m.textproto",
          .gemm_flops = {.fp64 = 0.0, .fp32 = 10e12, .fp16 = 100e12, .bf16 = 0.0},
          .vector_flops = 5e12,
          .dram_bandwidth = 2e12,
          .launch_seconds = 4e-6,
          .memory_bytes = 80'000'000'000,
          .devices = 8,
          .link = {100e9, 2e-6},
          .nics = 2,
          .nic = {10e9, 10e-6},
          .op_rates = {},
          .transfer_rates = {}};
}

std::string message_of(auto action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

// (1024, 4096) x (4096, 4096): 2 * 2^10 * 2^12 * 2^12 = 34,359,738,368 FLOPs over 100 TFLOP/s are
// 343.6 us; 2 bytes of 4,194,304 + 16,777,216 + 4,194,304 elements, 50,331,648, over 2 TB/s 25.2
// us.
TEST(OpSeconds, AProductIsBoundByItsFlops) {
  const OpSeconds cost = op_seconds(
      machine(),
      {.op = Op::kGemm, .dtype = DType::kF16, .flops = 34'359'738'368, .dram_bytes = 50'331'648});
  EXPECT_NEAR(cost.flops, 343.59738368e-6, 1e-15);
  EXPECT_NEAR(cost.dram, 25.165824e-6, 1e-15);
  EXPECT_NEAR(cost.seconds(), 347.59738368e-6, 1e-12);
  // The same in FP32: a tenth of the rate.
  EXPECT_NEAR(op_seconds(machine(), {.op = Op::kGemm, .flops = 34'359'738'368}).seconds(),
              3439.9738368e-6, 1e-12);
}

// AdamW of 2^20 parameters: 28 bytes each, 29,360,128, over 2 TB/s are 14.68 us; 12 FLOPs each over
// 5 TFLOP/s 2.5 us. Launched three times: 12 us.
TEST(OpSeconds, AnUpdateIsBoundByItsBytes) {
  const OpSeconds cost = op_seconds(
      machine(), {.op = Op::kAdamW, .flops = 12'582'912, .dram_bytes = 29'360'128, .launches = 3});
  EXPECT_NEAR(cost.seconds(), 26.680064e-6, 1e-12);
}

TEST(OpSeconds, AnUnknownPrecisionIsRefused) {
  const std::string message = message_of(
      [] { op_seconds(machine(), {.op = Op::kGemm, .dtype = DType::kBF16, .flops = 1}); });
  EXPECT_NE(message.find("m.textproto: device.peak_flops.bf16"), std::string::npos) << message;
}

// 16 ranks, 8 a node, 1 MB from each to each.
TransferCost cost_of(Algorithm algorithm, int64_t rounds = 1) {
  return transfer_cost(machine(), topology_of(machine(), 16),
                       {.algorithm = algorithm, .part_bytes = 1'000'000, .rounds = rounds});
}

// Inside: 7 MB over 100 GB/s are 70 us. Between: 8 ranks send 8 MB each over 20 GB/s, 3200 us.
// Messages, in 3 rounds: 3 (7 * 2 us + 8 * 10 us) / 8 = 35.25 us.
TEST(TransferCost, Pairwise) {
  const TransferCost cost = cost_of(Algorithm::kPairwise, 3);
  EXPECT_EQ(cost.intra, 0.0);
  EXPECT_NEAR(cost.inter, 3200e-6, 1e-12);
  EXPECT_NEAR(cost.latency, 35.25e-6, 1e-12);
  EXPECT_NEAR(cost.seconds(), 3235.25e-6, 1e-12);
  EXPECT_EQ(cost.intra_bytes, 7'000'000);
  EXPECT_EQ(cost.inter_bytes, 8'000'000);
}

// 15 times the edge between nodes: 10 us + 1 MB over 20 GB/s, 50 us. (An edge inside: 12 us.)
TEST(TransferCost, Ring) {
  const TransferCost cost = cost_of(Algorithm::kRing);
  EXPECT_NEAR(cost.inter, 750e-6, 1e-12);
  EXPECT_NEAR(cost.latency, 150e-6, 1e-12);
  EXPECT_NEAR(cost.seconds(), 900e-6, 1e-12);
  EXPECT_EQ(cost.inter_bytes, 1'875'000);  // 15 MB leave a node, an eighth a rank
  EXPECT_EQ(cost.intra_bytes, 13'125'000);
}

// Inside: 7 (2 us + 2 MB over 100 GB/s) = 7 (2 + 20) us. Between: once 10 us + 8 MB over 20 GB/s.
TEST(TransferCost, TwoLevel) {
  const TransferCost cost = cost_of(Algorithm::kTwoLevel);
  EXPECT_NEAR(cost.intra, 140e-6, 1e-12);
  EXPECT_NEAR(cost.inter, 400e-6, 1e-12);
  EXPECT_NEAR(cost.latency, 24e-6, 1e-12);
  EXPECT_EQ(cost.inter_bytes, 1'000'000);
  EXPECT_EQ(cost.intra_bytes, 14'000'000);
}

// Inside one node of 4: 3 MB over 100 GB/s, 30 us, by every algorithm.
TEST(TransferCost, OneNodeHasNoNetwork) {
  for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
    const TransferCost cost = transfer_cost(machine(), topology_of(machine(), 4),
                                            {.algorithm = algorithm, .part_bytes = 1'000'000});
    EXPECT_NEAR(cost.intra, 30e-6, 1e-12);
    EXPECT_EQ(cost.inter, 0.0);
    EXPECT_EQ(cost.inter_bytes, 0);
    EXPECT_EQ(cost.intra_bytes, 3'000'000);
  }
  EXPECT_EQ(transfer_cost(machine(), topology_of(machine(), 1),
                          {.algorithm = Algorithm::kRing, .part_bytes = 8})
                .seconds(),
            0.0);
}

// An all-gather of one part a rank, message by message: who holds which parts, and how many parts
// crossed a link inside a node or between nodes.
class Messages {
 public:
  Messages(int ranks, int a_node) : node_(a_node), holds_(static_cast<size_t>(ranks)) {
    for (int r = 0; r < ranks; ++r) of(r).insert(r);
  }
  std::set<int>& of(int rank) { return holds_[static_cast<size_t>(rank)]; }
  void send(int from, int to, const std::set<int>& parts) {
    for (int part : parts) EXPECT_TRUE(of(from).contains(part));
    of(to).insert(parts.begin(), parts.end());
    (from / node_ == to / node_ ? intra : inter) += static_cast<int64_t>(parts.size());
  }
  int64_t intra = 0, inter = 0;

 private:
  int node_;
  std::vector<std::set<int>> holds_;
};

void gather_pairwise(Messages& m, int ranks) {
  for (int from = 0; from < ranks; ++from) {
    for (int to = 0; to < ranks; ++to) {
      if (from != to) m.send(from, to, {from});
    }
  }
}

// `stride` apart: a ring of all ranks with 1, of the ranks at one place of their nodes with g.
void gather_in_rings(Messages& m, int ranks, int stride) {
  const int members = ranks / stride;
  for (int step = 0; step + 1 < members; ++step) {
    for (int from = 0; from < ranks; ++from) {
      const int part = (from + (members - step) * stride) % ranks;
      m.send(from, (from + stride) % ranks, {part});
    }
  }
}

void gather_two_level(Messages& m, int ranks, int a_node) {
  gather_in_rings(m, ranks, a_node);
  for (int from = 0; from < ranks; ++from) {
    std::set<int> parts;
    for (int part = from % a_node; part < ranks; part += a_node) parts.insert(part);
    for (int to = from / a_node * a_node; to < from / a_node * a_node + a_node; ++to) {
      if (to != from) m.send(from, to, parts);
    }
  }
}

TEST(TransferCost, BytesAreThoseOfTheMessages) {
  constexpr int64_t kPart = 5 * 7 * 8 * 3;  // divisible by every node's size
  for (const auto& [ranks, a_node] :
       {std::pair{8, 8}, {16, 8}, {24, 8}, {6, 3}, {4, 1}, {35, 7}, {5, 5}}) {
    Machine m = machine();
    m.devices = a_node;
    for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
      Messages messages(ranks, a_node);
      if (algorithm == Algorithm::kPairwise) gather_pairwise(messages, ranks);
      if (algorithm == Algorithm::kRing) gather_in_rings(messages, ranks, 1);
      if (algorithm == Algorithm::kTwoLevel) gather_two_level(messages, ranks, a_node);
      for (int r = 0; r < ranks; ++r) ASSERT_EQ(messages.of(r).size(), static_cast<size_t>(ranks));
      const TransferCost cost =
          transfer_cost(m, topology_of(m, ranks), {.algorithm = algorithm, .part_bytes = kPart});
      const std::string what = std::string(name_of(algorithm)) + " of " + std::to_string(ranks);
      EXPECT_EQ(cost.intra_bytes * ranks, messages.intra * kPart) << what;
      EXPECT_EQ(cost.inter_bytes * ranks, messages.inter * kPart) << what;
    }
  }
}

TEST(TransferCost, MoreBandwidthOrLessLatencyIsNeverSlower) {
  std::mt19937_64 random(7);
  const auto draw = [&](double low, double high) {
    return std::exp(std::uniform_real_distribution(std::log(low), std::log(high))(random));
  };
  for (int i = 0; i < 2000; ++i) {
    Machine m = machine();
    m.devices = 1 + static_cast<int64_t>(random() % 16);
    m.nics = 1 + static_cast<int64_t>(random() % 8);
    m.link = {draw(1e8, 1e12), draw(1e-7, 1e-3)};
    m.nic = {draw(1e7, 1e12), draw(1e-7, 1e-3)};
    const Topology topology = topology_of(m, m.devices * (1 + static_cast<int64_t>(random() % 64)));
    Transfer transfer{.part_bytes = static_cast<int64_t>(draw(1, 1e9)),
                      .rounds = 1 + static_cast<int64_t>(random() % 9)};
    for (Algorithm algorithm : {Algorithm::kPairwise, Algorithm::kRing, Algorithm::kTwoLevel}) {
      transfer.algorithm = algorithm;
      const double before = transfer_cost(m, topology, transfer).seconds();
      for (const auto& better : {&Machine::link, &Machine::nic}) {
        Machine faster = m, nearer = m;
        (faster.*better).bandwidth *= draw(1, 100);
        (nearer.*better).latency_seconds /= draw(1, 100);
        EXPECT_LE(transfer_cost(faster, topology, transfer).seconds(), before * (1 + 1e-12));
        EXPECT_LE(transfer_cost(nearer, topology, transfer).seconds(), before * (1 + 1e-12));
      }
    }
  }
}

TEST(Machine, WhatIfScalesRatesAndNoLatency) {
  const Machine scaled_machine = scaled(machine(), {.flops = 0.5, .dram = 2.0, .link = 4.0});
  EXPECT_EQ(scaled_machine.gemm_flops.fp16, 50e12);
  EXPECT_EQ(scaled_machine.gemm_flops.fp32, 5e12);
  EXPECT_EQ(scaled_machine.vector_flops, 2.5e12);
  EXPECT_EQ(scaled_machine.dram_bandwidth, 4e12);
  EXPECT_EQ(scaled_machine.link.bandwidth, 400e9);
  EXPECT_EQ(scaled_machine.nic.bandwidth, 40e9);
  EXPECT_EQ(scaled_machine.link.latency_seconds, 2e-6);
  EXPECT_EQ(scaled_machine.nic.latency_seconds, 10e-6);
}

TEST(Machine, RanksFillWholeNodes) {
  EXPECT_EQ(topology_of(machine(), 3).nodes, 1);
  EXPECT_EQ(topology_of(machine(), 3).ranks_a_node, 3);
  EXPECT_EQ(topology_of(machine(), 24).nodes, 3);
  const std::string uneven = message_of([] { topology_of(machine(), 12); });
  EXPECT_NE(uneven.find("12 ranks do not fill whole nodes of 8"), std::string::npos) << uneven;
  EXPECT_NE(uneven.find("8 or 16"), std::string::npos) << uneven;
  Machine alone = machine();
  alone.nics = 0;
  EXPECT_EQ(topology_of(alone, 8).nodes, 1);
  const std::string apart = message_of([&] { topology_of(alone, 16); });
  EXPECT_NE(apart.find("node.nics is 0"), std::string::npos) << apart;
}

}  // namespace
}  // namespace memwall::test
