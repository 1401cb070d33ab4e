#include "runtime/cli/gemm_list.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <span>

#include "runtime/base/half.h"
#include "runtime/base/rng.h"
#include "runtime/base/workspace.h"
#include "runtime/exec/executor.h"
#include "runtime/kernels/gemm.h"
#include "runtime/kernels/kernel.h"
#include "runtime/kernels/library_gemm.h"

namespace memwall {
namespace {

void append(const Step& step, int64_t micro_step, int64_t iteration, std::vector<GemmCall>& out) {
  const auto* g = std::get_if<GemmAttributes>(&step.attributes);
  if (g == nullptr) return;
  out.push_back({.step = &step,
                 .whole = *g,
                 .iteration = iteration,
                 .a = step.inputs[0].dtype,
                 .b = step.inputs[1].dtype,
                 .c = step.outputs[0].dtype,
                 .accumulate = accumulates(step, micro_step, iteration)});
}

void append(const Program& program, int64_t micro_step, std::vector<GemmCall>& out) {
  for (const Step& step : program.steps) {
    append(step, micro_step, 0, out);
    if (step.op != Op::kChunked) continue;
    const Body& body = program.bodies[static_cast<size_t>(step.body)];
    for (int64_t i = 0; i < body.count; ++i) {
      for (const Step& inner : body.steps) append(inner, micro_step, i, out);
    }
  }
}

// Elements from a matrix's first to its last, of all of the batch; at least as many as it has where
// they lie row by row.
int64_t extent(const Strides& s, int64_t batch, int64_t rows, int64_t columns) {
  const int64_t matrix =
      std::max(1 + (rows - 1) * s.row + (columns - 1) * s.column, rows * columns);
  return (batch - 1) * s.batch + matrix;
}

// Numbers in [1/4, 1): draws repeated with a prime period.
template <class T, class Convert>
void fill(std::span<std::byte> buffer, Convert convert) {
  constexpr size_t kDraws = 4093;
  std::vector<T> draws(kDraws);
  for (size_t i = 0; i < kDraws; ++i) {
    draws[i] = convert(0.25 + 0.75 * to_unit_interval(random_bits(1, 0, i)));
  }
  T* const out = reinterpret_cast<T*>(buffer.data());
  for (size_t i = 0; i < buffer.size() / sizeof(T); ++i) out[i] = draws[i % kDraws];
}

void fill(std::span<std::byte> buffer, DType dtype) {
  switch (dtype) {
    case DType::kF64: return fill<double>(buffer, [](double x) { return x; });
    case DType::kF32: return fill<float>(buffer, [](double x) { return static_cast<float>(x); });
    case DType::kF16:
      return fill<Half>(buffer, [](double x) { return Half(static_cast<float>(x)); });
    case DType::kBF16:
      return fill<BFloat16>(buffer, [](double x) { return BFloat16(static_cast<float>(x)); });
    default: throw InternalError("products of this type are not measured");
  }
}

double seconds(const std::vector<GemmCall>& calls,
               const std::function<void(const GemmCall&)>& run) {
  const auto start = std::chrono::steady_clock::now();
  for (const GemmCall& call : calls) run(call);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

GemmAttributes GemmCall::limited() const {
  return memwall::limited(whole, iteration);
}

int64_t GemmCall::flops() const {
  const GemmAttributes g = limited();
  return 2 * g.batch * g.m * g.n * g.k;
}

std::vector<GemmCall> gemm_list(const Plan& plan, bool curvature) {
  std::vector<GemmCall> out;
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    append(plan.program(run.program), run.micro_step, out);
  }
  return out;
}

std::vector<GemmCall> in_type(std::vector<GemmCall> calls, DType dtype) {
  for (GemmCall& call : calls) call.a = call.b = call.c = dtype;
  return calls;
}

int64_t total_flops(const std::vector<GemmCall>& calls) {
  int64_t flops = 0;
  for (const GemmCall& call : calls) flops += call.flops();
  return flops;
}

GemmBench::GemmBench(const std::vector<GemmCall>& calls, int threads) : threads_(threads) {
  int64_t a = 0, b = 0, c = 0, workspace = 0;
  for (const GemmCall& call : calls) {
    const GemmAttributes& g = call.whole;
    a = std::max(a, extent(g.a, g.batch, g.m, g.k) * size_of(call.a));
    b = std::max(b, extent(g.b, g.batch, g.k, g.n) * size_of(call.b));
    c = std::max(c, extent(g.c, g.batch, g.m, g.n) * size_of(call.c));
    workspace = std::max(workspace, gemm_workspace_bytes(g, call.a, call.b, call.c));
  }
  a_.allocate(a);
  b_.allocate(b);
  c_.allocate(c);
  workspace_.allocate(workspace);
  if (calls.empty()) return;
  fill(a_.bytes(), calls.front().a);
  fill(b_.bytes(), calls.front().b);
}

void GemmBench::run_kernel(const GemmCall& call) {
  const Attributes attributes = call.whole;
  const Tensor inputs[] = {{a_.bytes().data(), call.a, {}}, {b_.bytes().data(), call.b, {}}};
  const Tensor outputs[] = {{c_.bytes().data(), call.c, {}}};
  kernel_of(Op::kGemm)({.attributes = attributes,
                        .inputs = inputs,
                        .outputs = outputs,
                        .accumulate = call.accumulate,
                        .iteration = call.iteration,
                        .unit = nullptr,
                        .workspace = workspace_.bytes(),
                        .threads = threads_});
}

void GemmBench::run_library(const GemmCall& call) {
  check(call.a == DType::kF32 && call.b == DType::kF32 && call.c == DType::kF32,
        "the library's products are FP32");
  const auto at = [](Buffer& buffer) { return reinterpret_cast<float*>(buffer.bytes().data()); };
  library_gemm(call.limited(), at(a_), at(b_), at(c_), call.accumulate, threads_);
}

double GemmBench::kernel_seconds(const std::vector<GemmCall>& calls) {
  return seconds(calls, [this](const GemmCall& call) { run_kernel(call); });
}

double GemmBench::library_seconds(const std::vector<GemmCall>& calls) {
  return seconds(calls, [this](const GemmCall& call) { run_library(call); });
}

}  // namespace memwall
