// Attention by cuDNN's C++ front end on the imitated cuDNN, against plain loops in double
// precision.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/imitated_gpu/attention_reference.h"
#include "tests/imitated_gpu/cudnn_trial.h"
#include "tests/imitated_gpu/numbers.h"
#include "tests/imitated_gpu/test_device.h"

namespace memwall::imitated::test {
namespace {

using Bits = std::vector<uint16_t>;

uint16_t to_bits(TrialType type, double value) {
  if (type == TrialType::kBFloat16) return BFloat16(static_cast<float>(value)).bits;
  const Half half = static_cast<Half>(static_cast<float>(value));
  uint16_t bits;
  std::memcpy(&bits, &half, sizeof(bits));
  return bits;
}

double from_bits(TrialType type, uint16_t bits) {
  if (type == TrialType::kBFloat16) {
    BFloat16 value;
    value.bits = bits;
    return static_cast<float>(value);
  }
  Half half;
  std::memcpy(&half, &bits, sizeof(half));
  return static_cast<double>(half);
}

std::vector<double> from_bits(TrialType type, const Bits& bits) {
  std::vector<double> values;
  for (const uint16_t word : bits) values.push_back(from_bits(type, word));
  return values;
}

Bits normal(TrialType type, int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> draw;
  Bits bits;
  for (int64_t i = 0; i < count; ++i) bits.push_back(to_bits(type, draw(random)));
  return bits;
}

double largest(const std::vector<double>& values) {
  double most = 0.0;
  for (const double value : values) most = std::max(most, std::fabs(value));
  return most;
}

// The largest difference, in parts of the largest number expected. Not a number: infinite.
double error_of(const std::vector<double>& values, const std::vector<double>& expected) {
  EXPECT_EQ(values.size(), expected.size());
  double most = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = std::fabs(values[i] - expected[i]);
    if (!(difference < 1e30)) return std::numeric_limits<double>::infinity();
    most = std::max(most, difference);
  }
  return most / largest(expected);
}

AttentionShape shape_of(const TrialProblem& p) {
  return {p.batch, p.heads, p.time, p.size, p.scale, p.is_causal};
}

// The tensors of a problem on the device, and the problem's graphs.
class Attention {
 public:
  explicit Attention(const TrialProblem& problem, unsigned seed = 1)
      : problem_(problem),
        count_(static_cast<size_t>(shape_of(problem).count())),
        q_bits(normal(problem.type, shape_of(problem).count(), seed)),
        k_bits(normal(problem.type, shape_of(problem).count(), seed + 1)),
        v_bits(normal(problem.type, shape_of(problem).count(), seed + 2)),
        d_o_bits(normal(problem.type, shape_of(problem).count(), seed + 3)),
        o(count_),
        d_q(count_),
        d_k(count_),
        d_v(count_),
        stats(static_cast<size_t>(shape_of(problem).rows())),
        trial(problem) {}

  TrialPointers pointers() const {
    return {q.get(),   k.get(),   v.get(),   o.get(),  stats.get(),
            d_o.get(), d_q.get(), d_k.get(), d_v.get()};
  }
  AttentionResults expected() const {
    const TrialType type = problem_.type;
    return attention(shape_of(problem_), {from_bits(type, q_bits), from_bits(type, k_bits),
                                          from_bits(type, v_bits), from_bits(type, d_o_bits)});
  }
  std::vector<double> read(const DeviceArray<uint16_t>& tensor) const {
    return from_bits(problem_.type, tensor.read());
  }
  std::vector<double> read_stats() const {
    const std::vector<float> values = stats.read();
    return {values.begin(), values.end()};
  }
  void expect_forward() const {
    const AttentionResults wanted = expected();
    EXPECT_LT(error_of(read(o), wanted.o), 2 * rounding());
    EXPECT_LT(error_of(read_stats(), wanted.stats), 1e-5);
  }
  void expect_backward() const {
    const AttentionResults wanted = expected();
    EXPECT_LT(error_of(read(d_q), wanted.d_q), 4 * rounding());
    EXPECT_LT(error_of(read(d_k), wanted.d_k), 4 * rounding());
    EXPECT_LT(error_of(read(d_v), wanted.d_v), 4 * rounding());
  }
  // Half a unit in the last place of 1.
  double rounding() const { return problem_.type == TrialType::kHalf ? 0x1p-11 : 0x1p-8; }

 private:
  TrialProblem problem_;
  size_t count_;

 public:
  Bits q_bits, k_bits, v_bits, d_o_bits;
  DeviceArray<uint16_t> q{q_bits}, k{k_bits}, v{v_bits}, d_o{d_o_bits};
  DeviceArray<uint16_t> o, d_q, d_k, d_v;
  DeviceArray<float> stats;
  TrialAttention trial;
};

// The settings are again what they were.
class Settled {
 public:
  ~Settled() { trial_settings() = before_; }

 private:
  Settings before_ = trial_settings();
};

constexpr size_t kSpace = size_t{1} << 20;

TrialProblem small(TrialType type = TrialType::kBFloat16) {
  return {2, 3, 37, 8, type, 0.35f, true, true};
}

class ImitatedCudnn : public testing::TestWithParam<TrialProblem> {};

TEST_P(ImitatedCudnn, AttentionIsThatOfPlainLoops) {
  Attention attention(GetParam());
  ASSERT_EQ(attention.trial.build(), "");
  const DeviceArray<char> workspace(kSpace);
  ASSERT_LE(attention.trial.backward_workspace(), static_cast<int64_t>(kSpace));
  const TestStream stream;
  ASSERT_EQ(attention.trial.forward(stream, attention.pointers(), workspace.get()), "");
  ASSERT_EQ(attention.trial.backward(stream, attention.pointers(), workspace.get()), "");
  stream.synchronize();
  attention.expect_forward();
  attention.expect_backward();
}

constexpr TrialType kHalf = TrialType::kHalf, kBFloat16 = TrialType::kBFloat16;
INSTANTIATE_TEST_SUITE_P(Shapes, ImitatedCudnn,
                         testing::Values(TrialProblem{2, 3, 37, 8, kHalf, 0.35f, true, true},
                                         TrialProblem{2, 3, 37, 8, kBFloat16, 0.35f, true, true},
                                         TrialProblem{1, 2, 64, 64, kBFloat16, 0.125f, true, true},
                                         TrialProblem{1, 2, 130, 64, kHalf, 0.125f, true, true},
                                         TrialProblem{2, 1, 100, 16, kHalf, 0.25f, false, true},
                                         TrialProblem{1, 3, 70, 24, kBFloat16, 0.2f, true, false},
                                         TrialProblem{2, 2, 2, 16, kHalf, 0.25f, true, true}));

// A graph that says something else computes something else.
TEST(ImitatedCudnnGraph, ScaleAndMaskAreThoseOfTheGraph) {
  for (const bool other_scale : {true, false}) {
    TrialProblem said = small();
    if (other_scale) said.scale = 0.4f;
    said.is_causal = other_scale;
    Attention attention(small());
    TrialAttention trial(said);
    ASSERT_EQ(trial.build(), "");
    const DeviceArray<char> workspace(kSpace);
    const TestStream stream;
    ASSERT_EQ(trial.forward(stream, attention.pointers(), workspace.get()), "");
    stream.synchronize();
    EXPECT_GT(error_of(attention.read(attention.o), attention.expected().o), 0.02);
    EXPECT_GT(error_of(attention.read_stats(), attention.expected().stats), 1e-3);
  }
}

// What runs late reads its inputs late, and in every order the numbers are the same.
TEST(ImitatedCudnnOrder, RunsOnTheStream) {
  const Settled settled;
  trial_settings().order = Order::kLate;
  Attention attention(small());
  ASSERT_EQ(attention.trial.build(), "");
  const DeviceArray<char> workspace(kSpace);
  const DeviceArray<uint16_t> later(normal(kBFloat16, 2 * 3 * 37 * 8, 77));
  const TestStream stream;
  const Bits before = attention.o.read();
  ASSERT_EQ(attention.trial.forward(stream, attention.pointers(), workspace.get()), "");
  EXPECT_EQ(attention.o.read(), before);
  EXPECT_CUDA(
      cudaMemcpy(attention.q.get(), later.get(), 2 * 3 * 37 * 8 * 2, cudaMemcpyDeviceToDevice));
  attention.q_bits = later.read();
  stream.synchronize();
  attention.expect_forward();
  const Bits late = attention.o.read();
  for (const OrderCase& order : all_orders()) {
    trial_settings().order = order.order;
    trial_settings().seed = order.seed;
    EXPECT_CUDA(cudaMemset(attention.o.get(), 0xFF, late.size() * 2));
    ASSERT_EQ(attention.trial.forward(stream, attention.pointers(), workspace.get()), "");
    if (order.order == Order::kEarly) {
      EXPECT_EQ(attention.o.read(), late);
    }
    stream.synchronize();
    EXPECT_EQ(attention.o.read(), late);
  }
}

TEST(ImitatedCudnnOrder, IsCapturedAndLaunchedAgain) {
  TestStream stream;
  const DeviceArray<char> workspace(kSpace);
  Attention attention(small());
  ASSERT_EQ(attention.trial.build(), "");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t launchable = nullptr;
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  ASSERT_EQ(attention.trial.forward(stream, attention.pointers(), workspace.get()), "");
  ASSERT_EQ(attention.trial.backward(stream, attention.pointers(), workspace.get()), "");
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaGraphInstantiate(&launchable, graph, 0));
  EXPECT_CUDA(cudaGraphDestroy(graph));
  for (unsigned seed = 20; seed < 22; ++seed) {
    attention.q_bits = normal(kBFloat16, static_cast<int64_t>(attention.q_bits.size()), seed);
    EXPECT_CUDA(cudaMemcpy(attention.q.get(), attention.q_bits.data(), attention.q_bits.size() * 2,
                           cudaMemcpyHostToDevice));
    EXPECT_CUDA(cudaGraphLaunch(launchable, stream));
    stream.synchronize();
    attention.expect_forward();
    attention.expect_backward();
  }
  EXPECT_CUDA(cudaGraphExecDestroy(launchable));
}

// The front end's sum of dO * O, then the library's dP, 16 bits a score in blocks of 64 x 128.
TEST(ImitatedCudnnWorkspace, IsPlausible) {
  const Settled settled;
  TrialAttention trial(small());
  ASSERT_EQ(trial.build(), "");
  EXPECT_EQ(trial.forward_workspace(), 0);
  EXPECT_EQ(trial.backward_workspace(), 2 * 3 * 37 * 4 + 2 * 3 * 64 * 128 * 2);
  trial_settings().cudnn_extra_workspace = 512;
  TrialAttention more(small());
  ASSERT_EQ(more.build(), "");
  EXPECT_EQ(more.forward_workspace(), 512);
  EXPECT_EQ(more.backward_workspace(), 2 * 3 * 37 * 4 + 2 * 3 * 64 * 128 * 2 + 512);
}

class ImitatedCudnnRefuses : public testing::Test {
 protected:
  ImitatedCudnnRefuses() : attention_(small()) { EXPECT_EQ(attention_.trial.build(), ""); }
  std::string backward(const TrialPointers& pointers, void* workspace) {
    return attention_.trial.backward(stream_, pointers, workspace);
  }
  size_t needed() const { return static_cast<size_t>(attention_.trial.backward_workspace()); }

  TestStream stream_;
  Attention attention_;
};

TEST_F(ImitatedCudnnRefuses, AWorkspaceThatIsTooSmallOrOverlapsATensor) {
  const DeviceArray<char> enough(needed()), little(needed() - 1);
  EXPECT_EQ(backward(attention_.pointers(), enough.get()), "");
  EXPECT_NE(backward(attention_.pointers(), little.get()), "");
  EXPECT_NE(backward(attention_.pointers(), nullptr), "");
  const DeviceArray<char> together(needed() + attention_.q_bits.size() * 2);
  TrialPointers pointers = attention_.pointers();
  pointers.d_k = together.get() + needed() / 16 * 16;
  EXPECT_NE(backward(pointers, together.get()), "");
  pointers.d_k = together.get() + (needed() + 15) / 16 * 16 - 16;
  EXPECT_NE(backward(pointers, together.get()), "");
  stream_.synchronize();
}

TEST_F(ImitatedCudnnRefuses, NoWorkspaceButOverwritesAllOfIt) {
  constexpr size_t kMargin = 64;
  const DeviceArray<char> workspace(std::vector<char>(needed() + 2 * kMargin, 7));
  EXPECT_EQ(backward(attention_.pointers(), workspace.get() + kMargin), "");
  stream_.synchronize();
  const std::vector<char> after = workspace.read();
  const auto untouched = [&](size_t first, size_t count) {
    return std::all_of(&after[first], &after[first] + count, [](char c) { return c == 7; });
  };
  EXPECT_TRUE(untouched(0, kMargin));
  EXPECT_TRUE(untouched(kMargin + needed(), kMargin));
  EXPECT_NE(after[kMargin + needed() - 1], 7);
}

TEST_F(ImitatedCudnnRefuses, PointersOfTheHostAndMisalignedOnes) {
  const DeviceArray<char> workspace(needed());
  const DeviceArray<uint16_t> longer(attention_.q_bits.size() + 8);
  TrialPointers pointers = attention_.pointers();
  pointers.q = longer.get() + 1;
  EXPECT_NE(backward(pointers, workspace.get()), "");
  pointers.q = longer.get() + 8;
  EXPECT_EQ(backward(pointers, workspace.get()), "");
  pointers.q = attention_.q_bits.data();
  EXPECT_NE(backward(pointers, workspace.get()), "");
  stream_.synchronize();
}

TEST_F(ImitatedCudnnRefuses, StreamsOfNobody) {
  const DeviceArray<char> workspace(needed());
  EXPECT_NE(attention_.trial.forward(nullptr, attention_.pointers(), workspace.get()), "");
}

TEST(ImitatedCudnnSupport, EndsAtTypesAndHeadsThatCudnnDoesNotTake) {
  const auto said = [](int64_t size, TrialType type) {
    return TrialAttention({1, 2, 16, size, type, 0.1f, true, true}).build();
  };
  EXPECT_EQ(said(256, kBFloat16), "");
  EXPECT_NE(said(264, kBFloat16), "");
  EXPECT_NE(said(12, kBFloat16), "");
  EXPECT_NE(said(16, TrialType::kFloat), "");
  EXPECT_NE(TrialAttention({1, 2, 1, 16, kBFloat16, 0.1f, true, true}).build(), "");
}

TEST(ImitatedCudnnSupport, KnowsTheArchitecture) {
  const Settled settled;
  for (const int arch : {80, 90, 100}) {
    trial_settings().arch = arch;
    EXPECT_EQ(TrialAttention(small()).build(), "") << arch;
  }
  trial_settings().arch = 70;
  EXPECT_NE(TrialAttention(small()).build(), "");
}

}  // namespace
}  // namespace memwall::imitated::test
