#include "runtime/passes/select.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "runtime/graph/rewrite.h"
#include "runtime/passes/fuse_attention.h"

namespace memwall {
namespace {

// Nodes that one op stands for. It takes the place of the last of them.
struct Fusion {
  Op op = Op::kCopy;
  Attributes attributes;
  std::vector<NodeId> parts;
  std::vector<ValueId> inputs, outputs;  // of the old graph
  NodeId adds = -1;                      // the part whose result is outputs[0] and may be added
};

// What a target's kernels join.
struct Joined {
  bool rows = false;            // elementwise ops and layer norms, row by row
  bool blocks_of_rows = false;  // also sums over columns; on a GPU such kernels are too few to fill
                                // it, and what they would read again is in its cache
  ProductEpilogues epilogues;
};

class Selector {
 public:
  Selector(const Graph& from, const Joined& joined)
      : from_(from),
        joined_(joined),
        rewriter_(from, to_),
        readers_(from.values.size()),
        returned_(from.values.size(), false),
        fusion_of_(from.nodes.size(), -1) {
    for (size_t i = 0; i < from.nodes.size(); ++i) {
      for (const auto* list : {&from.nodes[i].inputs, &from.nodes[i].addends}) {
        for (ValueId v : *list) {
          if (v < 0) continue;
          readers_[static_cast<size_t>(v)].push_back(static_cast<NodeId>(i));
          if (from.nodes[i].op != Op::kGelu) kept_.insert(derived_from(v));
        }
      }
    }
    for (const GraphOutput& output : from.outputs) {
      returned_[static_cast<size_t>(output.value)] = true;
      kept_.insert(derived_from(output.value));
    }
  }

  Graph run() {
    // What takes in more comes first.
    for (const Found find : {&Selector::product_and_gelu, &Selector::product_and_bias,
                             &Selector::rows, &Selector::blocks_of_rows}) {
      for (size_t i = 0; i < from_.nodes.size(); ++i) join(find, static_cast<NodeId>(i));
    }
    for (size_t i = 0; i < from_.nodes.size(); ++i) {
      const int32_t fusion = fusion_of_[i];
      if (fusion < 0) {
        rewriter_.copy(static_cast<NodeId>(i));
      } else if (fusions_[static_cast<size_t>(fusion)].parts.back() == static_cast<NodeId>(i)) {
        emit(fusions_[static_cast<size_t>(fusion)]);
      }
    }
    rewriter_.finish();
    return std::move(to_);
  }

 private:
  const Node& node(NodeId id) const { return from_.nodes[static_cast<size_t>(id)]; }
  NodeId producer(ValueId v) const { return from_.values[static_cast<size_t>(v)].node; }
  DType dtype(ValueId v) const { return from_.type(v).dtype; }

  using Found = std::optional<Fusion> (Selector::*)(const Node&, NodeId) const;

  void join(Found find, NodeId id) {
    if (node(id).dual) return;
    const std::optional<Fusion> found = (this->*find)(node(id), id);
    if (!found || !may_fuse(*found)) return;
    for (NodeId part : found->parts) {
      fusion_of_[static_cast<size_t>(part)] = static_cast<int32_t>(fusions_.size());
    }
    fusions_.push_back(*found);
  }

  std::optional<Fusion> product_and_gelu(const Node& n, NodeId id) const {
    if (joined_.epilogues.gelu && n.op == Op::kGelu) return gemm_bias_gelu(n, id);
    if (joined_.epilogues.gelu && n.op == Op::kGeluGrad) return gemm_gelu_grad(n, id);
    return {};
  }
  std::optional<Fusion> product_and_bias(const Node& n, NodeId id) const {
    if (joined_.epilogues.bias && n.op == Op::kBias) return gemm_bias(n, id);
    return {};
  }
  std::optional<Fusion> rows(const Node& n, NodeId id) const {
    if (joined_.rows && n.op == Op::kGelu) return bias_gelu(n, id);
    if (joined_.rows && n.op == Op::kLayerNorm) return add_layer_norm(n, id);
    return {};
  }
  std::optional<Fusion> blocks_of_rows(const Node& n, NodeId id) const {
    if (joined_.blocks_of_rows && n.op == Op::kColumnSum) return gelu_grad_columns(n, id);
    if (joined_.blocks_of_rows && n.op == Op::kLayerNormGrad) return layer_norm_grads(n, id);
    return {};
  }

  // The same for a value and for what computes it again.
  std::pair<NodeId, int32_t> derived_from(ValueId v) const {
    const NodeId made_by = producer(v), origin = node(made_by).origin;
    return {origin >= 0 ? origin : made_by, from_.values[static_cast<size_t>(v)].result};
  }

  // The attributes of the product whose result is `c`, if cuBLASLt can go on with its sums: whole
  // rows of one type that it has epilogues for, which nothing but `reader` reads. (That it adds to
  // nothing is may_fuse's to see.)
  std::optional<GemmAttributes> open_product(ValueId c, NodeId reader) const {
    const Node& gemm = node(producer(c));
    if (gemm.op != Op::kGemm || gemm.tangent || returned_[static_cast<size_t>(c)] ||
        readers_[static_cast<size_t>(c)] != std::vector<NodeId>{reader}) {
      return {};
    }
    const DType type = dtype(c);
    const bool has_epilogues = type == DType::kF16 || type == DType::kBF16 || type == DType::kF32;
    const auto& g = std::get<GemmAttributes>(gemm.attributes);
    const bool whole_rows = g.c.row == g.n && g.c.column == 1 &&
                            (g.batch == 1 || g.c.batch == g.m * g.n) &&
                            from_.type(c).shape.elements() == g.batch * g.m * g.n;
    if (!has_epilogues || !whole_rows || g.limit != GemmLimit::kNone ||
        dtype(gemm.inputs[0]) != type || dtype(gemm.inputs[1]) != type) {
      return {};
    }
    return g;
  }

  // cuBLASLt's matrix beside the result, of GELU's input: rows of a multiple of 8 elements.
  static bool takes_gelu(const GemmAttributes& g) { return g.batch == 1 && g.n % 8 == 0; }

  std::optional<Fusion> gemm_bias(const Node& bias, NodeId id) const {
    const ValueId c = bias.inputs[0];
    const std::optional<GemmAttributes> g = open_product(c, id);
    if (!g || bias.tangent || dtype(bias.inputs[1]) != dtype(c)) return {};
    const auto& rows = std::get<RowsAttributes>(bias.attributes);
    if (rows.batch != g->batch || rows.rows != g->m || rows.width != g->n || rows.stride != g->n) {
      return {};
    }
    const std::vector<ValueId>& factors = node(producer(c)).inputs;
    return Fusion{Op::kGemmBias, *g, {producer(c), id}, {factors[0], factors[1], bias.inputs[1]},
                  bias.outputs,  -1};
  }

  // Where the sum is needed by backward too, or is computed again for it: then both have the same
  // bits. Else GELU works in place and takes less memory.
  std::optional<Fusion> gemm_bias_gelu(const Node& gelu, NodeId id) const {
    const ValueId h = gelu.inputs[0];
    const NodeId bias = producer(h);
    if (node(bias).op != Op::kBias || node(bias).dual || !kept_.contains(derived_from(h)))
      return {};
    std::optional<Fusion> found = gemm_bias(node(bias), bias);
    if (!found || !takes_gelu(std::get<GemmAttributes>(found->attributes))) return {};
    found->op = Op::kGemmBiasGelu;
    found->parts.push_back(id);
    found->outputs.push_back(gelu.outputs[0]);
    return found;
  }

  std::optional<Fusion> gemm_gelu_grad(const Node& grad, NodeId id) const {
    const ValueId dy = grad.inputs[0], h = grad.inputs[1];
    const std::optional<GemmAttributes> g = open_product(dy, id);
    if (!g || !takes_gelu(*g) || grad.tangent || h == dy || dtype(h) != dtype(dy)) return {};
    const std::vector<ValueId>& factors = node(producer(dy)).inputs;
    return Fusion{Op::kGemmGeluGrad,           *g,           {producer(dy), id},
                  {factors[0], factors[1], h}, grad.outputs, -1};
  }

  // Where the sum is needed by backward too: alone, each op works in place and takes less memory.
  std::optional<Fusion> bias_gelu(const Node& gelu, NodeId id) const {
    const ValueId h = gelu.inputs[0];
    const Node& bias = node(producer(h));
    if (bias.op != Op::kBias || readers_[static_cast<size_t>(h)].size() < 2) return {};
    const auto& rows = std::get<RowsAttributes>(bias.attributes);
    if (rows.batch != 1) return {};
    return Fusion{Op::kBiasGelu, rows, {producer(h), id}, bias.inputs, {h, gelu.outputs[0]}, -1};
  }

  std::optional<Fusion> add_layer_norm(const Node& norm, NodeId id) const {
    const ValueId sum = norm.inputs[0];
    const Node& add = node(producer(sum));
    if (add.op != Op::kAdd || readers_[static_cast<size_t>(sum)].size() < 2) return {};
    for (ValueId v : add.inputs) {
      if (dtype(v) != dtype(sum)) return {};
    }
    return Fusion{Op::kAddLayerNorm,
                  std::get<RowsAttributes>(norm.attributes),
                  {producer(sum), id},
                  {add.inputs[0], add.inputs[1], norm.inputs[1], norm.inputs[2]},
                  {sum, norm.outputs[0], norm.outputs[1], norm.outputs[2]},
                  -1};
  }

  std::optional<Fusion> gelu_grad_columns(const Node& columns, NodeId id) const {
    const ValueId dx = columns.inputs[0];
    const Node& grad = node(producer(dx));
    const auto& rows = std::get<RowsAttributes>(columns.attributes);
    if (grad.op != Op::kGeluGrad || grad.dual || rows.batch != 1 || !grad.addends.empty())
      return {};
    return Fusion{Op::kGeluGradColumns,     rows, {producer(dx), id}, grad.inputs,
                  {columns.outputs[0], dx}, id};
  }

  std::optional<Fusion> layer_norm_grads(const Node& grad, NodeId id) const {
    const ValueId dy = grad.inputs[0];
    if (std::get<RowsAttributes>(grad.attributes).batch != 1) return {};
    NodeId scale = -1, shift = -1;
    for (NodeId reader : readers_[static_cast<size_t>(dy)]) {
      const Node& n = node(reader);
      const bool sums = !n.inputs.empty() && n.inputs[0] == dy && n.addends.empty() && reader < id;
      if (!sums || dtype(n.outputs[0]) != dtype(dy)) continue;
      const bool of_this_norm = n.op == Op::kLayerNormScaleGrad && n.inputs[1] == grad.inputs[1] &&
                                n.inputs[2] == grad.inputs[3];
      if (of_this_norm) scale = reader;
      if (n.op == Op::kColumnSum && n.attributes == grad.attributes) shift = reader;
    }
    if (scale < 0 || shift < 0 || dtype(grad.outputs[0]) != dtype(dy)) return {};
    return Fusion{Op::kLayerNormGrads,
                  std::get<RowsAttributes>(grad.attributes),
                  {scale, shift, id},
                  grad.inputs,
                  {grad.outputs[0], node(scale).outputs[0], node(shift).outputs[0]},
                  id};
  }

  // One region, nothing taken twice, and nobody reads a result before the last part has run.
  bool may_fuse(const Fusion& fusion) const {
    const NodeId last = fusion.parts.back();
    for (NodeId part : fusion.parts) {
      const Node& n = node(part);
      if (fusion_of_[static_cast<size_t>(part)] >= 0 || n.recomputed != node(last).recomputed ||
          region_of(from_, n) != region_of(from_, node(last)) ||
          (part != fusion.adds && !n.addends.empty())) {
        return false;
      }
      for (ValueId v : n.outputs) {
        for (NodeId reader : readers_[static_cast<size_t>(v)]) {
          const bool inside =
              std::find(fusion.parts.begin(), fusion.parts.end(), reader) != fusion.parts.end();
          if (!inside && reader < last) return false;
        }
      }
    }
    return true;
  }

  static std::string joined_name(const std::string& first, const std::string& last) {
    return first + '+' + last.substr(last.rfind('/') + 1);
  }

  void emit(const Fusion& fusion) {
    Node fused = node(fusion.parts.back());
    fused.op = fusion.op;
    fused.attributes = fusion.attributes;
    fused.name = joined_name(node(fusion.parts.front()).name, fused.name);
    fused.origin = fusion.parts.back();
    fused.inputs.clear();
    fused.outputs.clear();
    fused.addends.clear();
    for (ValueId v : fusion.inputs) fused.inputs.push_back(rewriter_.map(v));
    if (fusion.adds >= 0 && !node(fusion.adds).addends.empty()) {
      fused.addends.assign(fusion.outputs.size(), kNoValue);
      fused.addends[0] = rewriter_.map(node(fusion.adds).addends[0]);
      fused.addend_skipped_first = node(fusion.adds).addend_skipped_first;
    }
    std::vector<Type> types;
    for (ValueId v : fusion.outputs) types.push_back(from_.type(v));
    const NodeId id = to_.add(std::move(fused), types);
    for (size_t k = 0; k < fusion.outputs.size(); ++k) {
      rewriter_.set(fusion.outputs[k], to_.nodes[static_cast<size_t>(id)].outputs[k]);
    }
  }

  const Graph& from_;
  const Joined joined_;
  Graph to_;
  Rewriter rewriter_;
  std::vector<std::vector<NodeId>> readers_;   // by value, in order
  std::vector<bool> returned_;                 // by value
  std::set<std::pair<NodeId, int32_t>> kept_;  // derived_from of what not only a kGelu reads
  std::vector<int32_t> fusion_of_;             // by node
  std::vector<Fusion> fusions_;
};

}  // namespace

ProductEpilogues epilogues_of(const std::string& target) {
  if (backend_of(target) == Backend::kCpu) return {};
  return {.bias = true, .gelu = target != "sm_80"};
}

Graph select(const Graph& graph, const SelectSettings& settings) {
  const std::string& target = settings.target;
  const bool on_cpu = target == kCpuTarget, plain = target == kPlainCpuTarget;
  if (!on_cpu && !plain &&
      std::find(kGpuTargets.begin(), kGpuTargets.end(), target) == kGpuTargets.end()) {
    std::string allowed = "cpu, cpu_plain";
    for (const char* gpu : kGpuTargets) allowed.append(", ").append(gpu);
    throw InputError("unknown target \"" + target + "\"", "", "allowed: " + allowed);
  }
  const Joined joined{.rows = !plain,
                      .blocks_of_rows = on_cpu,
                      .epilogues = settings.epilogues.value_or(epilogues_of(target))};
  if (!settings.fuses_attention) return Selector(graph, joined).run();
  return Selector(fuse_attention(graph, backend_of(target)), joined).run();
}

}  // namespace memwall
