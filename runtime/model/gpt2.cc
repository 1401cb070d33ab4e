#include "runtime/model/gpt2.h"

#include <cmath>

#include "runtime/base/math.h"
#include "runtime/graph/ops/gemm.h"

namespace memwall {
namespace {

constexpr double kInitStd = 0.02;
constexpr int64_t kLogitsAlignment = 64;  // row stride of the logits scratch, in elements

class UnitBuilder {
 public:
  UnitBuilder(std::string name, int64_t alignment, uint32_t& next_index)
      : alignment_(alignment), next_index_(next_index) {
    unit_.name = std::move(name);
  }
  void add(const std::string& name, Shape shape, InitKind init, double value) {
    Segment segment;
    segment.name = name;
    segment.shape = shape;
    segment.offset = round_up(end_, alignment_);
    segment.count = shape.elements();
    segment.decay = shape.rank() == 2;
    segment.init = init;
    segment.init_value = value;
    segment.index = next_index_++;
    end_ = segment.offset + segment.count;
    unit_.parameters += segment.count;
    unit_.segments.push_back(std::move(segment));
  }
  void layer_norm(const std::string& name, int64_t width) {
    add(name + ".weight", {width}, InitKind::kConstant, 1.0);
    add(name + ".bias", {width}, InitKind::kConstant, 0.0);
  }
  void linear(const std::string& name, int64_t in, int64_t out, double std) {
    add(name + ".weight", {in, out}, InitKind::kNormal, std);
    add(name + ".bias", {out}, InitKind::kConstant, 0.0);
  }
  Unit finish(int64_t ranks) {
    unit_.padded = round_up(end_, ranks * alignment_);
    return std::move(unit_);
  }

 private:
  Unit unit_;
  int64_t alignment_;
  uint32_t& next_index_;
  int64_t end_ = 0;
};

// Dropout sites: the embedding, then three a block.
enum BlockSite : int64_t { kAttentionSite, kResidualSite, kMlpSite, kSitesPerBlock };
int64_t site_of(int64_t layer, BlockSite site) {
  return 1 + layer * kSitesPerBlock + site;
}

RowsAttributes rows_attributes(int64_t rows, int64_t width, int64_t batch = 1) {
  RowsAttributes r;
  r.batch = batch;
  r.rows = rows;
  r.width = width;
  r.stride = width;
  return r;
}

}  // namespace

std::vector<Unit> gpt2_units(const GptSpec& spec, int64_t ranks, int64_t alignment) {
  std::vector<Unit> units;
  uint32_t index = 0;
  const int64_t d = spec.hidden;
  const double residual_std = kInitStd / std::sqrt(2.0 * static_cast<double>(spec.layers));
  UnitBuilder embedding("embedding", alignment, index);
  embedding.add("wte.weight", {spec.vocabulary, d}, InitKind::kNormal, kInitStd);
  embedding.add("wpe.weight", {spec.context, d}, InitKind::kNormal, kInitStd);
  units.push_back(embedding.finish(ranks));
  for (int64_t i = 0; i < spec.layers; ++i) {
    const std::string h = "h." + std::to_string(i);
    UnitBuilder block("block" + std::to_string(i), alignment, index);
    block.layer_norm(h + ".ln_1", d);
    block.linear(h + ".attn.c_attn", d, 3 * d, kInitStd);
    block.linear(h + ".attn.c_proj", d, d, residual_std);
    block.layer_norm(h + ".ln_2", d);
    block.linear(h + ".mlp.c_fc", d, 4 * d, kInitStd);
    block.linear(h + ".mlp.c_proj", 4 * d, d, residual_std);
    units.push_back(block.finish(ranks));
  }
  UnitBuilder head("head", alignment, index);
  head.layer_norm("ln_f", d);
  units.push_back(head.finish(ranks));
  return units;
}

Gpt2::Gpt2(GptSpec spec) : spec_(spec) {}

int64_t Gpt2::flops(int64_t tokens) const {
  const int64_t weights =
      12 * spec_.layers * spec_.hidden * spec_.hidden + spec_.vocabulary * spec_.hidden;
  return (6 * weights + 12 * spec_.layers * spec_.time * spec_.hidden) * tokens;
}

ValueId Gpt2::parameter(const Scope& scope, const ModelInputs& inputs, int64_t unit,
                        const std::string& name) const {
  const ValueId buffer = inputs.unit_buffer(scope, unit);
  const Segment& segment = inputs.units[static_cast<size_t>(unit)].segment(name);
  Type type = scope.graph.type(buffer);
  type.shape = segment.shape;
  return scope.emit(name, Op::kView, ViewAttributes{segment.offset}, {buffer}, type);
}

ValueId Gpt2::dropout(const Scope& scope, ValueId x, const ModelInputs& inputs,
                      int64_t site) const {
  if (!drops(inputs)) return x;
  DropoutAttributes a;
  a.rate = spec_.dropout;
  a.seed = spec_.dropout_seed;
  a.site = site;
  a.samples = spec_.batch;
  a.rows = a.total_rows = spec_.time;
  a.width = spec_.hidden;
  return scope.emit("dropout", Op::kDropout, a, {x, inputs.sample_index});
}

ValueId Gpt2::layer_norm(const Scope& scope, ValueId x, ValueId scale, ValueId shift) const {
  RowsAttributes r = rows_attributes(spec_.batch * spec_.time, spec_.hidden);
  r.epsilon = spec_.layer_norm_epsilon;
  const NodeId id = scope.emit_all("norm", Op::kLayerNorm, r, {x, scale, shift}, {});
  return scope.graph.nodes[static_cast<size_t>(id)].outputs[0];
}

ValueId Gpt2::embedding(const Scope& scope, const ModelInputs& inputs) const {
  const int64_t rows = spec_.batch * spec_.time, d = spec_.hidden;
  const ValueId table = parameter(scope, inputs, 0, "wte.weight");
  const ValueId x =
      scope.emit("tokens", Op::kEmbedding, rows_attributes(rows, d), {inputs.tokens, table});
  // Positions: the first `time` rows of wpe, added to each sequence seen as one row.
  const ValueId buffer = inputs.unit_buffer(scope, 0);
  const Segment& wpe = inputs.units[0].segment("wpe.weight");
  Type type = scope.graph.type(buffer);
  type.shape = Shape{spec_.time * d};
  const ValueId positions =
      scope.emit("wpe.rows", Op::kView, ViewAttributes{wpe.offset}, {buffer}, type);
  const ValueId sum = scope.emit("positions", Op::kBias,
                                 rows_attributes(spec_.batch, spec_.time * d), {x, positions});
  return dropout(scope, sum, inputs, 0);
}

// One iteration: `rows` query rows of one sequence, all heads.
std::shared_ptr<const Graph> Gpt2::attention_body(int64_t rows, int64_t site, bool drops) const {
  Graph body;
  const Scope scope{body, "", Phase::kForward, 0};
  const int64_t d = spec_.hidden, h = spec_.heads, t = spec_.time, size = d / h;
  const int64_t period = t / rows;
  const auto operand = [&](int64_t index, const char* name, const Type& type) {
    return scope.emit(name, Op::kOperand, StateAttributes{index}, {}, type);
  };
  const ValueId q = operand(0, "q", {spec_.dtype, {rows, d}, Placement::kBatchSplit});
  const ValueId k = operand(1, "k", {spec_.dtype, {t, d}, Placement::kBatchSplit});
  const ValueId v = operand(2, "v", {spec_.dtype, {t, d}, Placement::kBatchSplit});

  GemmAttributes qk;  // (heads, rows, time)
  qk.batch = h;
  qk.m = rows;
  qk.n = t;
  qk.k = size;
  qk.a = {size, d, 1};
  qk.b = {size, 1, d};
  qk.c = {rows * t, t, 1};
  qk.alpha = 1.0 / std::sqrt(static_cast<double>(size));
  qk.limit = GemmLimit::kN;
  qk.limit_rows = rows;
  qk.limit_period = period;
  const Type scores_type{spec_.dtype, {h, rows, t}, Placement::kBatchSplit};
  const ValueId scores = scope.emit("scores", Op::kGemm, qk, {q, k}, scores_type);
  RowsAttributes r = rows_attributes(rows, t, h);
  r.period = period;
  ValueId p = scope.emit("softmax", Op::kCausalSoftmax, r, {scores});
  if (drops) {
    const ValueId index = operand(3, "sample", {DType::kI64, {1}, Placement::kBatchSplit});
    DropoutAttributes a;
    a.rate = spec_.dropout;
    a.seed = spec_.dropout_seed;
    a.site = site;
    a.heads = h;
    a.rows = rows;
    a.width = t;
    a.total_rows = t;
    a.period = period;
    p = scope.emit("dropout", Op::kDropout, a, {p, index});
  }
  GemmAttributes pv;  // (rows, heads * size)
  pv.batch = h;
  pv.m = rows;
  pv.n = size;
  pv.k = t;
  pv.a = {rows * t, t, 1};
  pv.b = {size, d, 1};
  pv.c = {size, d, 1};
  pv.limit = GemmLimit::kK;
  pv.limit_rows = rows;
  pv.limit_period = period;
  const ValueId out =
      scope.emit("mix", Op::kGemm, pv, {p, v}, {spec_.dtype, {rows, d}, Placement::kBatchSplit});
  body.outputs.push_back({out, -1});
  return std::make_shared<const Graph>(std::move(body));
}

ValueId Gpt2::attention(const Scope& scope, ValueId qkv, const ModelInputs& inputs,
                        int64_t site) const {
  const int64_t rows = spec_.batch * spec_.time, d = spec_.hidden;
  const int64_t chunk = largest_divisor(spec_.time, kChunkRows);
  const int64_t period = spec_.time / chunk;
  Type type = scope.graph.type(qkv);
  type.shape = Shape{rows, d};
  Node node;
  node.op = Op::kChunked;
  node.attributes = ChunkedAttributes{spec_.batch * period, -1};
  node.name = scope.path("attention");
  node.phase = scope.phase;
  node.block = scope.block;
  node.body = attention_body(chunk, site, drops(inputs));
  for (int64_t part = 0; part < 3; ++part) {
    const char* names[] = {"q", "k", "v"};
    node.inputs.push_back(
        scope.emit(names[part], Op::kView, ViewAttributes{part * rows * d}, {qkv}, type));
    node.periods.push_back(part == 0 ? 1 : period);
  }
  if (drops(inputs)) {
    node.inputs.push_back(inputs.sample_index);
    node.periods.push_back(period);
  }
  node.periods.push_back(1);
  const NodeId id = scope.graph.add(std::move(node), {type});
  return scope.graph.nodes[static_cast<size_t>(id)].outputs[0];
}

ValueId Gpt2::block(const Scope& scope, ValueId x, int64_t layer, const ModelInputs& inputs) const {
  const int64_t rows = spec_.batch * spec_.time, d = spec_.hidden, unit = layer + 1;
  const std::string h = "h." + std::to_string(layer);
  const auto weight = [&](const std::string& name) {
    return parameter(scope, inputs, unit, h + "." + name);
  };
  const Type row_type{spec_.dtype, {rows, d}, Placement::kBatchSplit};
  const auto linear = [&](const Scope& s, const std::string& name, ValueId in, int64_t width_in,
                          int64_t width_out, const std::string& tensor) {
    const ValueId product = s.emit(name, Op::kGemm, plain_gemm(rows, width_out, width_in),
                                   {in, weight(tensor + ".weight")},
                                   {spec_.dtype, {rows, width_out}, Placement::kBatchSplit});
    return s.emit(name + ".bias", Op::kBias, rows_attributes(rows, width_out),
                  {product, weight(tensor + ".bias")});
  };

  const Scope attn = scope.sub("attn");
  const ValueId normed = layer_norm(attn, x, weight("ln_1.weight"), weight("ln_1.bias"));
  GemmAttributes g = plain_gemm(rows, d, d);  // (3, rows, width): parts are contiguous
  g.batch = 3;
  g.a = {0, d, 1};
  g.b = {d, 3 * d, 1};
  const Type qkv_type{spec_.dtype, {3, rows, d}, Placement::kBatchSplit};
  const ValueId product =
      attn.emit("qkv", Op::kGemm, g, {normed, weight("attn.c_attn.weight")}, qkv_type);
  const ValueId qkv = attn.emit("qkv.bias", Op::kBias, rows_attributes(rows, d, 3),
                                {product, weight("attn.c_attn.bias")});
  const ValueId mixed = attention(attn, qkv, inputs, site_of(layer, kAttentionSite));
  const ValueId projected = linear(attn, "proj", mixed, d, d, "attn.c_proj");
  const ValueId middle =
      attn.emit("residual", Op::kAdd, NoAttributes{},
                {x, dropout(attn, projected, inputs, site_of(layer, kResidualSite))}, row_type);

  const Scope mlp = scope.sub("mlp");
  const ValueId normed2 = layer_norm(mlp, middle, weight("ln_2.weight"), weight("ln_2.bias"));
  const ValueId wide = linear(mlp, "fc1", normed2, d, 4 * d, "mlp.c_fc");
  const ValueId active = mlp.emit("gelu", Op::kGelu, NoAttributes{}, {wide});
  const ValueId narrow = linear(mlp, "fc2", active, 4 * d, d, "mlp.c_proj");
  return mlp.emit("residual", Op::kAdd, NoAttributes{},
                  {middle, dropout(mlp, narrow, inputs, site_of(layer, kMlpSite))}, row_type);
}

ValueId Gpt2::hidden(Graph& graph, const ModelInputs& inputs) const {
  const auto last = static_cast<int32_t>(spec_.layers + 1);
  graph.last_block = last;
  const Scope root{graph, "", Phase::kForward, 0};
  ValueId x = embedding(root.sub("embedding"), inputs);
  for (int64_t i = 0; i < spec_.layers; ++i) {
    const Scope scope = root.sub("block" + std::to_string(i)).at_block(static_cast<int32_t>(i + 1));
    x = block(scope, x, i, inputs);
  }
  const Scope head = root.sub("head").at_block(last);
  return layer_norm(head, x, parameter(head, inputs, last, "ln_f.weight"),
                    parameter(head, inputs, last, "ln_f.bias"));
}

ValueId Gpt2::loss_sum(Graph& graph, const ModelInputs& inputs, int64_t parts) const {
  const ValueId states = hidden(graph, inputs);
  const Scope scope{graph, "head", Phase::kForward, graph.last_block};
  const ValueId table = parameter(scope, inputs, 0, "wte.weight");
  const int64_t total = spec_.batch * spec_.time, d = spec_.hidden, v = spec_.vocabulary;
  const int64_t rows = largest_divisor(total / parts, spec_.head_rows), count = total / rows;
  const int64_t stride = round_up(v, kLogitsAlignment);

  Graph body;
  const Scope inner{body, "", Phase::kForward, 0};
  const auto split = Placement::kBatchSplit;
  const ValueId h =
      inner.emit("hidden", Op::kOperand, StateAttributes{0}, {}, {spec_.dtype, {rows, d}, split});
  const ValueId w = inner.emit("table", Op::kOperand, StateAttributes{1}, {},
                               {spec_.dtype, {v, d}, Placement::kReplicated});
  const ValueId y =
      inner.emit("targets", Op::kOperand, StateAttributes{2}, {}, {DType::kI32, {rows}, split});
  GemmAttributes g = plain_gemm(rows, v, d);
  g.b = {0, 1, d};
  g.c = {rows * stride, stride, 1};
  const ValueId logits =
      inner.emit("logits", Op::kGemm, g, {h, w}, {spec_.dtype, {rows, stride}, split});
  RowsAttributes r = rows_attributes(rows, v);
  r.stride = stride;
  const NodeId loss = inner.emit_all("cross_entropy", Op::kCrossEntropy, r, {logits, y}, {});
  body.outputs.push_back({inner.emit("loss", Op::kSum, NoAttributes{},
                                     {body.nodes[static_cast<size_t>(loss)].outputs[0]}),
                          -1});

  Node node;
  node.op = Op::kChunked;
  node.attributes = ChunkedAttributes{count, -1};
  node.name = "head/loss";
  node.block = graph.last_block;
  node.body = std::make_shared<const Graph>(std::move(body));
  node.inputs = {states, table, inputs.targets};
  node.periods = {1, count, 1, count / parts};
  const Placement placement = parts == 1 ? Placement::kPartial : split;
  const NodeId id = graph.add(std::move(node), {{DType::kF64, {parts}, placement}});
  return graph.nodes[static_cast<size_t>(id)].outputs[0];
}

ValueId Gpt2::next_token_logits(Graph& graph, const ModelInputs& inputs, ValueId position) const {
  const ValueId states = hidden(graph, inputs);
  const Scope scope{graph, "head", Phase::kForward, graph.last_block};
  const int64_t d = spec_.hidden, v = spec_.vocabulary;
  const ValueId row = scope.emit("row", Op::kEmbedding, rows_attributes(1, d), {position, states});
  const ValueId table = parameter(scope, inputs, 0, "wte.weight");
  GemmAttributes g = plain_gemm(1, v, d);
  g.b = {0, 1, d};
  return scope.emit("logits", Op::kGemm, g, {row, table},
                    {spec_.dtype, {v}, Placement::kBatchSplit});
}

}  // namespace memwall
