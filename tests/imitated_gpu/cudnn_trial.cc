#include "tests/imitated_gpu/cudnn_trial.h"

#include <dlfcn.h>

#include <cstdlib>
#include <unordered_map>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the front end declares it
}

namespace memwall::imitated::test {
namespace {

namespace fe = cudnn_frontend;
namespace graph = cudnn_frontend::graph;

enum Uid : int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV };

// cuDNN's and cudart's functions are looked up in the library that this code is part of.
void open_library() {
  if (fe::cudnn_dlhandle != nullptr) return;
  Dl_info here{};
  dladdr(reinterpret_cast<const void*>(&open_library), &here);
  setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", here.dli_fname, 0);
  fe::cudnn_dlhandle = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
}

fe::DataType_t type_of(TrialType type) {
  return type == TrialType::kHalf       ? fe::DataType_t::HALF
         : type == TrialType::kBFloat16 ? fe::DataType_t::BFLOAT16
                                        : fe::DataType_t::FLOAT;
}

std::string text(fe::error_t error) {
  return error.is_good() ? "" : "cuDNN: " + error.get_message();
}

}  // namespace

struct TrialAttention::Graphs {
  TrialProblem problem;
  cudnnHandle_t handle = nullptr;
  graph::Graph forward, backward;

  using Tensor = std::shared_ptr<graph::Tensor_attributes>;

  std::vector<int64_t> dims() const {
    return {problem.batch, problem.heads, problem.time, problem.size};
  }
  std::vector<int64_t> strides() const {
    const int64_t row = problem.heads * problem.size;
    return {problem.time * row, problem.size, row, 1};
  }
  std::vector<int64_t> row_dims() const { return {problem.batch, problem.heads, problem.time, 1}; }
  std::vector<int64_t> row_strides() const {
    return {problem.heads * problem.time, problem.time, 1, 1};
  }

  void start(graph::Graph& made) const {
    made.set_io_data_type(type_of(problem.type))
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }
  Tensor input(graph::Graph& made, Uid uid) const {
    return made.tensor(
        graph::Tensor_attributes().set_uid(uid).set_dim(dims()).set_stride(strides()));
  }
  void output(const Tensor& tensor, Uid uid) const {
    tensor->set_output(true).set_uid(uid).set_dim(dims()).set_stride(strides());
  }

  void make_forward() {
    start(forward);
    auto attributes =
        graph::SDPA_attributes().set_generate_stats(true).set_attn_scale(problem.scale);
    // As one operation, which newer libraries have for all of it, it is not imitated.
    attributes.set_implementation(fe::AttentionImplementation_t::COMPOSITE);
    if (problem.is_causal) attributes.set_diagonal_band_right_bound(0);
    const auto q = input(forward, kQ), k = input(forward, kK), v = input(forward, kV);
    auto [o, stats] = forward.sdpa(q, k, v, attributes);
    output(o, kO);
    stats->set_output(true).set_uid(kStats).set_data_type(fe::DataType_t::FLOAT);
    stats->set_dim(row_dims()).set_stride(row_strides());
  }

  void make_backward() {
    start(backward);
    const auto q = input(backward, kQ), k = input(backward, kK), v = input(backward, kV);
    const auto o = input(backward, kO), d_o = input(backward, kDO);
    const auto stats = backward.tensor(graph::Tensor_attributes()
                                           .set_uid(kStats)
                                           .set_dim(row_dims())
                                           .set_stride(row_strides())
                                           .set_data_type(fe::DataType_t::FLOAT));
    auto attributes = graph::SDPA_backward_attributes()
                          .set_attn_scale(problem.scale)
                          .set_causal_mask(problem.is_causal)
                          .set_deterministic_algorithm(problem.is_deterministic);
    auto [d_q, d_k, d_v] = backward.sdpa_backward(q, k, v, o, d_o, stats, attributes);
    output(d_q, kDQ);
    output(d_k, kDK);
    output(d_v, kDV);
  }
};

TrialAttention::TrialAttention(const TrialProblem& problem) : graphs_(new Graphs) {
  open_library();
  graphs_->problem = problem;
}
TrialAttention::~TrialAttention() {
  if (graphs_->handle != nullptr) fe::detail::destroy_handle(graphs_->handle);
}

std::string TrialAttention::build() {
  if (fe::detail::create_handle(&graphs_->handle) != CUDNN_STATUS_SUCCESS) return "cudnnCreate";
  graphs_->make_forward();
  graphs_->make_backward();
  for (graph::Graph* made : {&graphs_->forward, &graphs_->backward}) {
    std::string error = text(made->build(graphs_->handle, {fe::HeurMode_t::A}));
    if (!error.empty()) return error;
  }
  return "";
}

int64_t TrialAttention::forward_workspace() const {
  return graphs_->forward.get_workspace_size();
}
int64_t TrialAttention::backward_workspace() const {
  return graphs_->backward.get_workspace_size();
}

std::string TrialAttention::forward(cudaStream_t stream, const TrialPointers& p, void* workspace) {
  fe::detail::set_stream(graphs_->handle, stream);
  std::unordered_map<int64_t, void*> pack = {
      {kQ, p.q}, {kK, p.k}, {kV, p.v}, {kO, p.o}, {kStats, p.stats}};
  return text(graphs_->forward.execute(graphs_->handle, pack, workspace));
}

std::string TrialAttention::backward(cudaStream_t stream, const TrialPointers& p, void* workspace) {
  fe::detail::set_stream(graphs_->handle, stream);
  std::unordered_map<int64_t, void*> pack = {{kQ, p.q},    {kK, p.k},         {kV, p.v},
                                             {kO, p.o},    {kStats, p.stats}, {kDO, p.d_o},
                                             {kDQ, p.d_q}, {kDK, p.d_k},      {kDV, p.d_v}};
  return text(graphs_->backward.execute(graphs_->handle, pack, workspace));
}

Settings& trial_settings() {
  return settings();
}

}  // namespace memwall::imitated::test
