// The vocabulary that graph, plan and kernels share: the ops and their attributes.
//
// An attribute struct lists its fields once, in `fields`; printing, reading back, hashing and
// comparing go through that list. Every field is an int64_t or a double.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>

namespace memwall {

// The op list. Shapes are row-major; (a, b) -> (c) names inputs and results.
enum class Op : uint8_t {
  // Leaves and aliases: they cost nothing and become no step.
  kState,      // () -> (slot)             the contents of a persistent slot
  kOperand,    // () -> (x)                an operand of the enclosing body
  kView,       // (buffer) -> (part)       elements [offset, offset + count), any shape
  kShardView,  // (buffer) -> (shard)      this rank's slice of a whole buffer
  kConcat,     // (parts...) -> (buffer)   parts at given offsets, covering the buffer
  kReplicate,  // (x) -> (x)               a whole parameter buffer enters the graph (stage 0-2)
  // Movement and arithmetic.
  kFill,       // ([scalars]) -> (x)       value, or value * scalars[scalar]
  kCopy,       // (x, [place]) -> (y)      y = x, converting the dtype; y lies in `place`
  kAdd,        // (a, b) -> (c)
  kBias,       // (x, b) -> (y)            x (batch, rows, width) + b (batch, width)
  kColumnSum,  // (x) -> (b)               sums over rows, (batch, rows, width) -> (batch, width)
  kGemm,       // (a, b) -> (c)
  kSum,        // (x) -> (f64[1])
  // Transformer primitives.
  kLayerNorm,           // (x, gamma, beta) -> (y, mean, rstd)
  kLayerNormGrad,       // (dy, x, gamma, mean, rstd) -> (dx)
  kLayerNormScaleGrad,  // (dy, x, mean, rstd) -> (dgamma)
  kGelu,                // (x) -> (y)       tanh approximation
  kGeluGrad,            // (dy, x) -> (dx)
  kDropout,             // (x, sample_index) -> (y)
  kCausalSoftmax,       // (scores) -> (p)
  kSoftmaxGrad,         // (dp, p) -> (dscores)
  kEmbedding,           // (indices, table) -> (rows)
  kEmbeddingGrad,       // (indices, dy) -> (dtable)
  kCrossEntropy,        // (logits, targets) -> (row_loss, log_sum_exp)
  kCrossEntropyGrad,    // (drow_loss, logits, targets, log_sum_exp) -> (dlogits)
  kChunked,             // a body graph, run `count` times
  // What a target's selection puts in the place of several (passes/select.h).
  kBiasGelu,         // (x, b) -> (h, y)                    h = x + b, y = gelu(h)
  kAddLayerNorm,     // (a, b, gamma, beta) -> (sum, y, mean, rstd)
  kGeluGradColumns,  // (dy, x) -> (db, dx)                 db: the column sums of dx
  kLayerNormGrads,   // (dy, x, gamma, mean, rstd) -> (dx, dgamma, dbeta)
  kAttention,        // (q, k, v) -> (y, log_sum_exp)
  kAttentionGrad,    // (dy, q, k, v, y, log_sum_exp) -> (dq, dk, dv)
  // A product and what follows it (Epilogue, below); GemmAttributes of the product.
  kGemmBias,      // (a, b, bias) -> (c)     c = a b + bias, bias (batch, n)
  kGemmBiasGelu,  // (a, b, bias) -> (h, y)  h = a b + bias, y = gelu(h)
  kGemmGeluGrad,  // (a, b, h) -> (dx)       dx = gelu'(h) a b
  // Collectives.
  kAllGather,      // (shard) -> (whole)
  kReduceScatter,  // (whole, partial) -> (shard)
  kAllReduce,      // (f64[n], partial) -> (f64[n]) summed in rank order; scalars only
  // Curvature: z is a unit's random signs (kernels/signs.h).
  kSign,            // (scalars) -> (z)       z * scalars[kSignScale], of a whole unit
  kSignProduct,     // (x, scalars) -> (y)    z x, of a whole unit
  kSumParts,        // (x) -> (f64[parts])    one sum for each of `parts` equal parts
  kRowPartials,     // (d) -> (f64[parts, 2])  shares of the first and last row of each shard
  kSpatialAverage,  // (d[, row_sums]) -> (h) |d| averaged over blocks (kernels/spatial_average.h)
  // The update.
  kInitialize,   // () -> (parameters)      of a unit: shard or whole
  kSumSquares,   // (g) -> (f64[parts])     one sum for each of `parts` equal parts
  kStepControl,  // (reduced, scalars) -> (scalars)
  kAdamW,        // (parameters, m, v, g, scalars) -> (parameters, m, v)
  kSgd,          // (parameters[, m], g, scalars) -> (parameters[, m])
  kAdaHessian,   // (parameters, m, s, g[, h], scalars) -> (parameters, m[, s])
  kOpCount
};
constexpr size_t kOpCount = static_cast<size_t>(Op::kOpCount);

std::string_view op_name(Op op);  // "gemm"
std::optional<Op> parse_op(std::string_view name);
bool is_collective(Op op);  // runs on the communication stream
bool is_update(Op op);      // an optimizer's, of a unit
bool is_product(Op op);     // kGemm, kGemmBias, kGemmBiasGelu, kGemmGeluGrad
bool runs_on_duals(Op op);  // has a kernel on dual numbers (kernels/kernel.h)
// Operands of such an op, without tangents; 0 for others.
size_t dual_operands(Op op);

// What a product does with its sums before they are stored.
enum class Epilogue : uint8_t { kNone, kBias, kBiasGelu, kGeluGrad };
Epilogue epilogue_of(Op op);  // kNone but for those products

// What a causal chunk may leave out: in iteration i only the first (i % period + 1) * rows entries
// of one dimension of the product exist. The other rows (kM) of an overwritten result are set to
// zero; its other columns (kN) are left as they are, and nothing may read them.
enum class GemmLimit : int64_t { kNone, kM, kN, kK };

struct NoAttributes {
  template <class V>
  void fields(V&&) {}
  bool operator==(const NoAttributes&) const = default;
};

struct StateAttributes {
  int64_t slot = 0;
  template <class V>
  void fields(V&& v) {
    v("slot", slot);
  }
  bool operator==(const StateAttributes&) const = default;
};

struct ViewAttributes {
  int64_t offset = 0;  // elements
  template <class V>
  void fields(V&& v) {
    v("offset", offset);
  }
  bool operator==(const ViewAttributes&) const = default;
};

struct FillAttributes {
  double value = 0.0;
  int64_t scalar = -1;  // a Scalar to multiply with, or -1
  template <class V>
  void fields(V&& v) {
    v("value", value);
    v("scalar", scalar);
  }
  bool operator==(const FillAttributes&) const = default;
};

// kBias, kColumnSum, kLayerNorm*, kEmbedding*, kCrossEntropy*, kCausalSoftmax, kSoftmaxGrad:
// a tensor seen as (batch, rows, width), elements [0, width) of each row, rows `stride` apart.
struct RowsAttributes {
  int64_t batch = 1, rows = 0, width = 0;
  int64_t stride = 0;    // elements between rows, >= width
  double epsilon = 0.0;  // layer norm
  // Causal softmax inside a chunk: row r is query (iteration % period) * rows + r.
  int64_t period = 1;
  template <class V>
  void fields(V&& v) {
    v("batch", batch);
    v("rows", rows);
    v("width", width);
    v("stride", stride);
    v("epsilon", epsilon);
    v("period", period);
  }
  bool operator==(const RowsAttributes&) const = default;
};

struct Strides {  // elements
  int64_t batch = 0, row = 0, column = 0;
  bool operator==(const Strides&) const = default;
};

// c[b, i, j] = alpha * sum_k a[b, i, k] * b[b, k, j] (+ the addend). A batch stride of 0 in `a` or
// `b` repeats the operand; in `c` it sums over the batch, in order.
struct GemmAttributes {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  Strides a, b, c;
  double alpha = 1.0;
  GemmLimit limit = GemmLimit::kNone;
  int64_t limit_rows = 0, limit_period = 1;
  template <class V>
  void fields(V&& v) {
    v("batch", batch);
    v("m", m);
    v("n", n);
    v("k", k);
    v("a.batch", a.batch);
    v("a.row", a.row);
    v("a.column", a.column);
    v("b.batch", b.batch);
    v("b.row", b.row);
    v("b.column", b.column);
    v("c.batch", c.batch);
    v("c.row", c.row);
    v("c.column", c.column);
    v("alpha", alpha);
    int64_t which = static_cast<int64_t>(limit);
    v("limit", which);
    limit = static_cast<GemmLimit>(which);
    v("limit_rows", limit_rows);
    v("limit_period", limit_period);
  }
  bool operator==(const GemmAttributes&) const = default;
};

// x is (samples, heads, rows, width). Element (s, h, r, c) keeps its value, scaled by
// 1 / (1 - rate), where random_bits(seed, site, e) >= rate * 2^32, with
// e = ((sample_index[s] * heads + h) * total_rows + (iteration % period) * rows + r) * width + c.
struct DropoutAttributes {
  double rate = 0.0;
  int64_t seed = 0, site = 0;  // site: one for each dropout of the model
  int64_t samples = 1, heads = 1, rows = 0, width = 0;
  int64_t total_rows = 0, period = 1;
  template <class V>
  void fields(V&& v) {
    v("rate", rate);
    v("seed", seed);
    v("site", site);
    v("samples", samples);
    v("heads", heads);
    v("rows", rows);
    v("width", width);
    v("total_rows", total_rows);
    v("period", period);
  }
  bool operator==(const DropoutAttributes&) const = default;
};

// Causal attention: q, k, v and y are (samples, time, heads, size), log_sum_exp is (samples, heads,
// time). Of each sample and head, y = softmax(scale q k^T) v over the keys up to the query's own;
// log_sum_exp is that of the row of scale q k^T (Dao 2023).
struct AttentionAttributes {
  int64_t samples = 0, time = 0, heads = 0, size = 0;
  double scale = 1.0;
  // Of a GPU's backward, divisors of `samples` and `heads`: all heads of some samples a call, or
  // some heads of one.
  int64_t samples_a_call = 0, heads_a_call = 0;
  template <class V>
  void fields(V&& v) {
    v("samples", samples);
    v("time", time);
    v("heads", heads);
    v("size", size);
    v("scale", scale);
    v("samples_a_call", samples_a_call);
    v("heads_a_call", heads_a_call);
  }
  bool operator==(const AttentionAttributes&) const = default;
};

// kInitialize, kSumSquares, kSumParts, curvature, kAllGather, kReduceScatter, updates: which unit,
// and what share of it this rank holds.
struct UnitAttributes {
  int64_t unit = 0;
  // kSumSquares, kSumParts: partial sums; the others: 1 = whole, ranks = a shard.
  int64_t parts = 1;
  int64_t seed = 0;                                // kInitialize, kSign, kSignProduct
  double weight_decay = 0.0;                       // updates
  double beta1 = 0.0, beta2 = 0.0, epsilon = 0.0;  // kAdamW, kAdaHessian
  double momentum = 0.0;                           // kSgd
  double hessian_power = 1.0;                      // kAdaHessian
  int64_t averaging_block =
      1;  // kRowPartials, kSpatialAverage, kAdaHessian: kWholeRows or elements
  template <class V>
  void fields(V&& v) {
    v("unit", unit);
    v("parts", parts);
    v("seed", seed);
    v("weight_decay", weight_decay);
    v("beta1", beta1);
    v("beta2", beta2);
    v("epsilon", epsilon);
    v("momentum", momentum);
    v("hessian_power", hessian_power);
    v("averaging_block", averaging_block);
  }
  bool operator==(const UnitAttributes&) const = default;
};

// reduced: f64[2 + norm_parts + trace_parts] = {loss sum, stop requests, norm partials..., trace
// partials...}.
struct StepControlAttributes {
  int64_t norm_parts = 1;    // how many partial sums of squares follow, added in order
  int64_t trace_parts = 0;   // and of z * (H z)
  double loss_factor = 1.0;  // loss = loss sum * loss_factor
  double grad_clip = 0.0;    // largest global norm; 0: no clipping
  template <class V>
  void fields(V&& v) {
    v("norm_parts", norm_parts);
    v("trace_parts", trace_parts);
    v("loss_factor", loss_factor);
    v("grad_clip", grad_clip);
  }
  bool operator==(const StepControlAttributes&) const = default;
};

// Iteration i of `count` uses slice i / period of each operand and result; a result overwrites
// where i % period == 0 and adds otherwise. The periods stand in the graph node.
struct ChunkedAttributes {
  int64_t count = 0;
  int64_t body = -1;  // index of the body graph (graph) or of the body's steps (plan)
  template <class V>
  void fields(V&& v) {
    v("count", count);
    v("body", body);
  }
  bool operator==(const ChunkedAttributes&) const = default;
};

using Attributes = std::variant<NoAttributes, StateAttributes, ViewAttributes, FillAttributes,
                                RowsAttributes, GemmAttributes, DropoutAttributes, UnitAttributes,
                                StepControlAttributes, ChunkedAttributes, AttentionAttributes>;

}  // namespace memwall
