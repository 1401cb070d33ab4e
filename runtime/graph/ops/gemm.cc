#include "runtime/graph/ops/gemm.h"

#include <algorithm>

#include "runtime/base/workspace.h"
#include "runtime/graph/ops/rules_list.h"

namespace memwall {

GemmAttributes plain_gemm(int64_t m, int64_t n, int64_t k) {
  GemmAttributes g;
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = {m * k, k, 1};
  g.b = {k * n, n, 1};
  g.c = {m * n, n, 1};
  return g;
}

namespace {

Strides transposed(const Strides& s) {
  return {s.batch, s.column, s.row};
}

GemmAttributes derived(const GemmAttributes& f, int64_t m, int64_t n, int64_t k) {
  GemmAttributes g = f;
  g.m = m;
  g.n = n;
  g.k = k;
  return g;
}

}  // namespace

// da[i, k] = alpha sum_j dc[i, j] b[k, j].
GemmAttributes gemm_grad_a(const GemmAttributes& f) {
  GemmAttributes g = derived(f, f.m, f.k, f.n);
  g.a = f.c;
  g.b = transposed(f.b);
  g.c = f.a;
  if (f.limit == GemmLimit::kN) g.limit = GemmLimit::kK;
  if (f.limit == GemmLimit::kK) g.limit = GemmLimit::kN;
  return g;
}

// db[k, j] = alpha sum_i a[i, k] dc[i, j].
GemmAttributes gemm_grad_b(const GemmAttributes& f, bool& swapped) {
  swapped = f.limit == GemmLimit::kN || (f.b.row == 1 && f.b.column != 1);
  if (swapped) {
    GemmAttributes g = derived(f, f.n, f.k, f.m);
    g.a = transposed(f.c);
    g.b = f.a;
    g.c = transposed(f.b);
    if (f.limit == GemmLimit::kN) g.limit = GemmLimit::kM;
    return g;
  }
  GemmAttributes g = derived(f, f.k, f.n, f.m);
  g.a = transposed(f.a);
  g.b = f.c;
  g.c = f.b;
  if (f.limit == GemmLimit::kK) g.limit = GemmLimit::kM;
  if (f.limit == GemmLimit::kM) g.limit = GemmLimit::kK;
  return g;
}

namespace ops {

OpRules gemm() {
  OpRules rules;  // whoever emits it states the result's shape
  rules.tangent = TangentRule::kProduct;
  rules.vjp = [](VjpContext& c) {
    const auto& f = std::get<GemmAttributes>(c.node().attributes);
    const ValueId a = c.node().inputs[0], b = c.node().inputs[1], dc = c.cotangent(0);
    if (c.needs(1)) {
      bool swapped = false;
      const GemmAttributes g = gemm_grad_b(f, swapped);
      c.contribute(1, "weight_grad", Op::kGemm, g,
                   swapped ? std::vector<ValueId>{dc, a} : std::vector<ValueId>{a, dc});
    }
    if (c.needs(0)) c.contribute(0, "input_grad", Op::kGemm, gemm_grad_a(f), {dc, b});
  };
  rules.flops = [](const Graph&, const Node& n) {
    const auto& g = std::get<GemmAttributes>(n.attributes);
    int64_t flops = 2 * g.batch * g.m * g.n * g.k;
    if (g.limit == GemmLimit::kNone) return flops;
    const int64_t dim = g.limit == GemmLimit::kM ? g.m : g.limit == GemmLimit::kN ? g.n : g.k;
    int64_t rows = 0;
    for (int64_t i = 1; i <= g.limit_period; ++i) rows += std::min(dim, i * g.limit_rows);
    return flops / dim * rows / g.limit_period;
  };
  rules.workspace_bytes = [](const Graph& g, const Node& n) {
    return gemm_workspace_bytes(std::get<GemmAttributes>(n.attributes), g.type(n.inputs[0]).dtype,
                                g.type(n.inputs[1]).dtype, g.type(n.outputs[0]).dtype);
  };
  rules.device_workspace_bytes = [](const Graph& g, const Node& n) {
    return device_gemm_workspace_bytes(std::get<GemmAttributes>(n.attributes),
                                       g.type(n.outputs[0]).dtype);
  };
  rules.accumulates = true;
  return rules;
}

}  // namespace ops
}  // namespace memwall
