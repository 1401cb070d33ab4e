#include "runtime/kernels/cuda/cudnn/attention_graph.h"

#include <string>

#include "runtime/base/error.h"

namespace memwall::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr const char* kRemedy = "set run.fused_attention to false";

void describe(fe::graph::Tensor_attributes& tensor, const AttentionKey& key, AttentionUid uid) {
  tensor.set_uid(uid);
  if (uid == kStatistics) {
    tensor.set_dim({key.samples, key.heads, key.time, 1})
        .set_stride({key.heads * key.time, key.time, 1, 1})
        .set_data_type(fe::DataType_t::FLOAT);
  } else {
    const int64_t row = key.row_elements;
    tensor.set_dim({key.samples, key.heads, key.time, key.size})
        .set_stride({key.time * row, key.size, row, 1});
  }
}

std::shared_ptr<fe::graph::Tensor_attributes> operand(fe::graph::Graph& graph,
                                                      const AttentionKey& key, AttentionUid uid,
                                                      const char* name) {
  fe::graph::Tensor_attributes tensor;
  tensor.set_name(name);
  describe(tensor, key, uid);
  return graph.tensor(tensor);
}

void give(const std::shared_ptr<fe::graph::Tensor_attributes>& result, const AttentionKey& key,
          AttentionUid uid) {
  describe(*result, key, uid);
  result->set_output(true);
}

void add_forward(fe::graph::Graph& graph, const AttentionKey& key) {
  const auto q = operand(graph, key, kQ, "q"), k = operand(graph, key, kK, "k"),
             v = operand(graph, key, kV, "v");
  auto options = fe::graph::SDPA_attributes()
                     .set_name("attention")
                     .set_generate_stats(true)
                     .set_attn_scale(static_cast<float>(key.scale))
                     .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                     .set_diagonal_band_right_bound(0);
  const auto [y, statistics] = graph.sdpa(q, k, v, options);
  give(y, key, kY);
  give(statistics, key, kStatistics);
}

void add_backward(fe::graph::Graph& graph, const AttentionKey& key) {
  const auto q = operand(graph, key, kQ, "q"), k = operand(graph, key, kK, "k"),
             v = operand(graph, key, kV, "v"), y = operand(graph, key, kY, "y"),
             dy = operand(graph, key, kDy, "dy"),
             statistics = operand(graph, key, kStatistics, "statistics");
  auto options = fe::graph::SDPA_backward_attributes()
                     .set_name("attention_grad")
                     .set_attn_scale(static_cast<float>(key.scale))
                     .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                     .set_diagonal_band_right_bound(0)
                     .set_deterministic_algorithm(true);
  const auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, y, dy, statistics, options);
  give(dq, key, kDq);
  give(dk, key, kDk);
  give(dv, key, kDv);
}

}  // namespace

AttentionKey key_of(const AttentionAttributes& a, DType dtype, bool backward) {
  check(size_of(dtype) == 2, "cuDNN's attention is of 16 bits");
  return {.backward = backward,
          .dtype = dtype,
          .samples = backward ? a.samples_a_call : a.samples,
          .time = a.time,
          .heads = backward ? a.heads_a_call : a.heads,
          .size = a.size,
          .row_elements = a.heads * a.size,
          .scale = a.scale};
}

void check_cudnn(fe::error_t error, const char* call) {
  if (error.is_good()) return;
  throw Error(std::string("cuDNN: ") + call + ": " + error.get_message(), "", kRemedy);
}

void describe(fe::graph::Graph& graph, const AttentionKey& key) {
  graph.set_io_data_type(key.dtype == DType::kF16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  key.backward ? add_backward(graph, key) : add_forward(graph, key);
}

void check_workspace(const fe::graph::Graph& graph, int64_t planned_bytes) {
  int64_t bytes = 0;
  check_cudnn(graph.get_workspace_size(bytes), "get_workspace_size");
  // Its beginning is aligned.
  const int64_t allowed = planned_bytes - kAttentionWorkspaceAlignment;
  if (bytes <= allowed) return;
  throw Error("cuDNN wants " + std::to_string(bytes) + " bytes of workspace for attention, and " +
                  std::to_string(allowed) + " are planned",
              "", kRemedy);
}

}  // namespace memwall::cuda
