// Products that take over what follows them: what is fused for which target, what is left alone,
// and, with CPU kernels, that a step keeps its bits.
#include <gtest/gtest.h>

#include <algorithm>

#include "comm/self/self_communicator.h"
#include "runtime/passes/select.h"
#include "tests/support/poison.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

constexpr int kSteps = 3;
constexpr ProductEpilogues kNone{}, kBias{.bias = true}, kAll{.bias = true, .gelu = true};

CompileSettings settings(const char* target, std::optional<ProductEpilogues> epilogues = {}) {
  CompileSettings s;
  s.target = target;
  s.epilogues = epilogues;
  s.grad_clip = 0.5;
  return s;
}

int64_t steps_of(const Program& program, Op op) {
  return std::count_if(program.steps.begin(), program.steps.end(),
                       [&](const Step& step) { return step.op == op; });
}

// What programs have of the ops in question.
struct Counts {
  int64_t bias, gemm_bias, bias_gelu, gemm_bias_gelu, gelu, gelu_grad, gemm_gelu_grad;
  bool operator==(const Counts&) const = default;
};
void PrintTo(const Counts& c, std::ostream* out) {
  *out << c.bias << ' ' << c.gemm_bias << ' ' << c.bias_gelu << ' ' << c.gemm_bias_gelu << ' '
       << c.gelu << ' ' << c.gelu_grad << ' ' << c.gemm_gelu_grad;
}
Counts counts_of(const Program& p) {
  return {steps_of(p, Op::kBias),         steps_of(p, Op::kGemmBias), steps_of(p, Op::kBiasGelu),
          steps_of(p, Op::kGemmBiasGelu), steps_of(p, Op::kGelu),     steps_of(p, Op::kGeluGrad),
          steps_of(p, Op::kGemmGeluGrad)};
}
Counts counts_of(const GptSpec& spec, const CompileSettings& s, const char* program) {
  return counts_of(compile(Gpt2(spec), s).program(program));
}

class Epilogues : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, Epilogues, testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST_P(Epilogues, KeepTheBits) {
  SelfCommunicator self;
  const CheckpointPolicy policies[] = {{Checkpointing::kNone, {}},
                                       {Checkpointing::kBlock, {}},
                                       {Checkpointing::kSelective, {"*/mlp/fc1.bias"}},
                                       {Checkpointing::kSelective, {"*/attn/qkv.bias"}}};
  for (const double dropout : {0.0, 0.1}) {
    GptSpec spec = tiny_spec(GetParam());
    spec.batch = 5;
    spec.dropout = dropout;
    for (const CheckpointPolicy& policy : policies) {
      const auto with = [&](const char* target, ProductEpilogues epilogues) {
        CompileSettings s = settings(target, epilogues);
        s.checkpointing = policy;
        s.micro_steps = 2;
        return s;
      };
      TinyRun plain(spec, with(kPlainCpuTarget, kNone), self);
      const Outcome expected = outcome_of(plain, kSteps);
      for (const char* target : {kPlainCpuTarget, kCpuTarget}) {
        for (const ProductEpilogues& epilogues : {kBias, kAll}) {
          TinyRun fused(spec, with(target, epilogues), self, 2);
          PoisoningObserver poison(fused.executor());
          fused.executor().set_observer(&poison);
          EXPECT_EQ(outcome_of(fused, kSteps), expected) << target << " dropout " << dropout;
          EXPECT_LT(fused.plan().totals.dram_bytes, plain.plan().totals.dram_bytes);
          EXPECT_EQ(fused.plan().totals.model_flops, plain.plan().totals.model_flops);
        }
      }
    }
  }
}

// Of a layer: the biases of qkv, proj, fc1 and fc2; one kBias more adds the positions.
TEST_P(Epilogues, OfEachTarget) {
  GptSpec spec = tiny_spec(GetParam());
  const int64_t l = spec.layers;
  const Counts none{3 * l + 1, 0, l, 0, 0, l, 0}, bias{1, 4 * l, 0, 0, l, l, 0},
      all{1, 3 * l, 0, l, 0, 0, l};
  EXPECT_EQ(counts_of(spec, settings("sm_80"), "last_micro"), bias);
  EXPECT_EQ(counts_of(spec, settings("sm_90"), "last_micro"), all);
  EXPECT_EQ(counts_of(spec, settings("sm_100"), "last_micro"), all);
  EXPECT_EQ(counts_of(spec, settings("sm_90", kNone), "last_micro"), none);
  EXPECT_EQ(counts_of(spec, settings(kCpuTarget), "last_micro").gemm_bias, 0);
  // Nothing reads GELU's input again: it works in place.
  const Counts evaluation{1, 4 * l, 0, 0, l, 0, 0};
  EXPECT_EQ(counts_of(spec, settings("sm_90"), "evaluate"), evaluation);
  // Each block is computed twice, by the same kernels.
  CompileSettings again = settings("sm_90");
  again.checkpointing.kind = Checkpointing::kBlock;
  const Counts twice = counts_of(spec, again, "last_micro");
  EXPECT_EQ(twice.gemm_bias_gelu, 2 * l);
  EXPECT_EQ(twice.gelu, 0);
  again.fuses_attention = true;
  EXPECT_EQ(counts_of(spec, again, "last_micro"), twice);
}

TEST_P(Epilogues, MoveFewerBytes) {
  const auto bytes = [&](const char* target, ProductEpilogues epilogues) {
    return compile(Gpt2(tiny_spec(GetParam())), settings(target, epilogues)).totals.dram_bytes;
  };
  for (const char* target : {"sm_80", "sm_90", "sm_100"}) {
    EXPECT_LT(bytes(target, kBias), bytes(target, kNone)) << target;
    EXPECT_LT(bytes(target, kAll), bytes(target, kBias)) << target;
  }
}

TEST(EpiloguesNot, InDoublePrecision) {
  const Counts counts = counts_of(tiny_spec(DType::kF64), settings("sm_90"), "last_micro");
  EXPECT_EQ(counts.gemm_bias + counts.gemm_bias_gelu + counts.gemm_gelu_grad, 0);
}

// Rows of 4 * 17 elements: cuBLASLt's matrix beside the result has rows of a multiple of 8.
TEST(EpiloguesNot, OfGeluWhereRowsAreNoMultipleOf8) {
  GptSpec spec = tiny_spec(DType::kBF16);
  spec.hidden = 17;
  spec.heads = 1;
  const Counts counts = counts_of(spec, settings("sm_90"), "last_micro");
  EXPECT_EQ(counts.gemm_bias, 4 * spec.layers);
  EXPECT_EQ(counts.gemm_bias_gelu + counts.gemm_gelu_grad, 0);
}

// In programs with tangents the values' products have biases, and their tangents are left alone.
TEST(EpiloguesNot, OfTangents) {
  GptSpec spec = tiny_spec(DType::kF32);
  CompileSettings s = settings("sm_90");
  s.optimizer = AdaHessianSettings{.update_every = 2};
  const Plan plan = compile(Gpt2(spec), s);
  const Program& curved = plan.program("last_micro_hessian");
  EXPECT_EQ(steps_of(curved, Op::kGemmBiasGelu), 0);
  EXPECT_EQ(steps_of(curved, Op::kGemmGeluGrad), 0);
  EXPECT_EQ(steps_of(curved, Op::kGemmBias), 4 * spec.layers);
  EXPECT_GT(steps_of(curved, Op::kBias), 0);
  EXPECT_EQ(steps_of(plan.program("last_micro"), Op::kGemmBiasGelu), spec.layers);
}

// Hand-made graphs: a product with bias whose parts cannot be one.
class EpilogueGraph : public testing::Test {
 protected:
  static constexpr int64_t kRows = 8, kWidth = 16;
  static Type rows_type(DType dtype = DType::kF32) {
    return {dtype, {kRows, kWidth}, Placement::kReplicated};
  }
  static ValueId leaf(const Scope& s, const char* name, const Type& type, int64_t slot) {
    return s.emit(name, Op::kState, StateAttributes{slot}, {}, type);
  }
  static RowsAttributes rows() {
    RowsAttributes a;
    a.rows = kRows, a.width = a.stride = kWidth;
    return a;
  }
  struct Made {
    Graph graph;
    ValueId product, sum;
  };
  static Made made(GemmAttributes g, const Type& factors = rows_type()) {
    Made m;
    const Scope s{m.graph, "", Phase::kForward, 0};
    const Type b_type{factors.dtype, {kWidth, kWidth}, Placement::kReplicated};
    const ValueId a = leaf(s, "a", factors, 0), b = leaf(s, "b", b_type, 1);
    const ValueId bias = leaf(s, "bias", {DType::kF32, {kWidth}, Placement::kReplicated}, 2);
    m.product = s.emit("product", Op::kGemm, g, {a, b}, rows_type());
    m.sum = s.emit("bias", Op::kBias, rows(), {m.product, bias});
    m.graph.outputs = {{m.sum, -1}};
    return m;
  }
  static GemmAttributes plain() {
    GemmAttributes g;
    g.m = kRows, g.n = g.k = kWidth;
    g.a = g.c = {kRows * kWidth, kWidth, 1};
    g.b = {kWidth * kWidth, kWidth, 1};
    return g;
  }
  static bool fuses(const Graph& graph) {
    const Graph out = select(graph, {.target = "sm_90"});
    return std::any_of(out.nodes.begin(), out.nodes.end(),
                       [](const Node& n) { return n.op == Op::kGemmBias; });
  }
};

TEST_F(EpilogueGraph, IsLeftAloneWhereSomethingElseWantsTheProduct) {
  EXPECT_TRUE(fuses(made(plain()).graph));
  Made read = made(plain());
  const Scope s{read.graph, "", Phase::kForward, 0};
  const ValueId other = s.emit("other", Op::kGelu, NoAttributes{}, {read.product});
  read.graph.outputs.push_back({other, -1});
  EXPECT_FALSE(fuses(read.graph));
  Made returned = made(plain());
  returned.graph.outputs.push_back({returned.product, -1});
  EXPECT_FALSE(fuses(returned.graph));
}

TEST_F(EpilogueGraph, IsLeftAloneWhereCublasHasNoEpilogue) {
  GemmAttributes limited = plain();
  limited.limit = GemmLimit::kK;
  limited.limit_rows = 8, limited.limit_period = 2;
  EXPECT_FALSE(fuses(made(limited).graph));
  GemmAttributes by_columns = plain();
  by_columns.c = {kRows * kWidth, 1, kRows};
  EXPECT_FALSE(fuses(made(by_columns).graph));
  EXPECT_FALSE(fuses(made(plain(), rows_type(DType::kBF16)).graph));
  Made added = made(plain());
  Node& product = added.graph.nodes[3];
  ASSERT_EQ(product.op, Op::kGemm);
  product.addends = {product.inputs[0]};
  EXPECT_FALSE(fuses(added.graph));
  Made of_part = made(plain());
  std::get<RowsAttributes>(of_part.graph.nodes[4].attributes).rows = kRows / 2;
  EXPECT_FALSE(fuses(of_part.graph));
}

}  // namespace
}  // namespace memwall::test
