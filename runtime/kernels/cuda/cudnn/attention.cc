// Causal attention and its gradients by cuDNN, through its C++ front end ("Fused flash attention"
// in cuDNN's documentation). cuDNN is opened where the first call needs it: half a gigabyte that
// runs without it do without. The backward pass is the deterministic one.
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "runtime/base/workspace.h"
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/cuda/context.h"
#include "runtime/kernels/launchers/launchers.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // where the front end finds cuDNN
}

namespace memwall::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr const char* kField = "run.fused_attention";
constexpr int64_t kWorkspaceAlignment = 256;
constexpr int64_t kTensorAlignment = 16;

void check_cudnn(fe::error_t error, const char* call) {
  if (error.is_good()) return;
  throw Error(std::string("cuDNN: ") + call + ": " + error.get_message(), "",
              "set " + std::string(kField) + " to false");
}

// This module, in which imitated GPUs have their own cuDNN; else the library by its name.
void open_cudnn() {
  static std::once_flag once;
  std::call_once(once, [] {
    Dl_info self{};
    check(dladdr(reinterpret_cast<const void*>(&open_cudnn), &self) != 0, "dladdr of the module");
    void* const module = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    check(module != nullptr, "the module is open");
    // The front end looks for CUDA's runtime by a name of its own, which may be another version.
    setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", self.dli_fname, 0);
    fe::cudnn_dlhandle = dlsym(module, "cudnnCreate") != nullptr
                             ? module
                             : dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  });
  if (fe::cudnn_dlhandle == nullptr) {
    throw InputError(
        "cuDNN 9 cannot be opened: libcudnn.so.9", kField,
        "install cuDNN where the loader finds it (LD_LIBRARY_PATH), or set it to false");
  }
}

enum Uid : int64_t { kQ = 1, kK, kV, kY, kStatistics, kDy, kDq, kDk, kDv };
using Pointers = std::unordered_map<int64_t, void*>;

struct Key {
  bool backward;
  DType dtype;
  int64_t samples, time, heads, size;  // of a call
  double scale;
  auto operator<=>(const Key&) const = default;
};

std::shared_ptr<fe::graph::Tensor_attributes> tensor(fe::graph::Graph& graph, const Key& key,
                                                     Uid uid, const char* name) {
  fe::graph::Tensor_attributes attributes;
  attributes.set_name(name).set_uid(uid);
  if (uid == kStatistics) {
    attributes.set_dim({key.samples, key.heads, key.time, 1})
        .set_stride({key.heads * key.time, key.time, 1, 1})
        .set_data_type(fe::DataType_t::FLOAT);
  } else {
    const int64_t row = key.heads * key.size;
    attributes.set_dim({key.samples, key.heads, key.time, key.size})
        .set_stride({key.time * row, key.size, row, 1});
  }
  return graph.tensor(attributes);
}

// A result's place: like the tensor of that name.
void place(const std::shared_ptr<fe::graph::Tensor_attributes>& result, const Key& key, Uid uid) {
  const int64_t row = key.heads * key.size;
  result->set_output(true).set_uid(uid);
  if (uid == kStatistics) {
    result->set_data_type(fe::DataType_t::FLOAT)
        .set_dim({key.samples, key.heads, key.time, 1})
        .set_stride({key.heads * key.time, key.time, 1, 1});
  } else {
    result->set_dim({key.samples, key.heads, key.time, key.size})
        .set_stride({key.time * row, key.size, row, 1});
  }
}

}  // namespace

// A graph that cuDNN has compiled.
class AttentionGraph {
 public:
  AttentionGraph(cudnnHandle_t cudnn, const Key& key, int64_t most_workspace_bytes) {
    graph_
        .set_io_data_type(key.dtype == DType::kF16 ? fe::DataType_t::HALF
                                                   : fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    key.backward ? add_backward(key) : add_forward(key);
    check_cudnn(graph_.build(cudnn, {fe::HeurMode_t::A}), "build of attention");
    int64_t bytes = 0;
    check_cudnn(graph_.get_workspace_size(bytes), "get_workspace_size");
    if (bytes <= most_workspace_bytes) return;
    throw Error("cuDNN wants " + std::to_string(bytes) + " bytes of workspace for attention, and " +
                    std::to_string(most_workspace_bytes) + " are planned",
                "", "set " + std::string(kField) + " to false");
  }

  void start(cudnnHandle_t cudnn, Pointers& pointers, void* workspace) const {
    check_cudnn(graph_.execute(cudnn, pointers, workspace), "execute");
  }

 private:
  void add_forward(const Key& key) {
    const auto q = tensor(graph_, key, kQ, "q"), k = tensor(graph_, key, kK, "k"),
               v = tensor(graph_, key, kV, "v");
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(true)
                       .set_attn_scale(static_cast<float>(key.scale))
                       .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                       .set_diagonal_band_right_bound(0);
    const auto [y, statistics] = graph_.sdpa(q, k, v, options);
    place(y, key, kY);
    place(statistics, key, kStatistics);
  }

  void add_backward(const Key& key) {
    const auto q = tensor(graph_, key, kQ, "q"), k = tensor(graph_, key, kK, "k"),
               v = tensor(graph_, key, kV, "v"), y = tensor(graph_, key, kY, "y"),
               dy = tensor(graph_, key, kDy, "dy"),
               statistics = tensor(graph_, key, kStatistics, "statistics");
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_grad")
                       .set_attn_scale(static_cast<float>(key.scale))
                       .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                       .set_diagonal_band_right_bound(0)
                       .set_deterministic_algorithm(true);
    const auto [dq, dk, dv] = graph_.sdpa_backward(q, k, v, y, dy, statistics, options);
    place(dq, key, kDq);
    place(dk, key, kDk);
    place(dv, key, kDv);
  }

  fe::graph::Graph graph_;
};

class AttentionLibrary {
 public:
  AttentionLibrary() = default;
  ~AttentionLibrary() {
    if (cudnn_ != nullptr) fe::detail::destroy_handle(cudnn_);
  }
  AttentionLibrary(const AttentionLibrary&) = delete;
  AttentionLibrary& operator=(const AttentionLibrary&) = delete;

  void start(const Context& context, const Key& key, Pointers& pointers,
             std::span<std::byte> workspace) {
    if (cudnn_ == nullptr) {
      open_cudnn();
      check_status(fe::detail::create_handle(&cudnn_), "cudnnCreate");
      check_status(fe::detail::set_stream(cudnn_, context.stream), "cudnnSetStream");
    }
    auto& graph = graphs_[key];
    if (!graph) {
      graph = std::make_unique<AttentionGraph>(cudnn_, key, static_cast<int64_t>(workspace.size()));
    }
    graph->start(cudnn_, pointers, workspace.data());
  }

 private:
  static void check_status(cudnnStatus_t status, const char* call) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    throw Error(std::string("cuDNN: ") + call + ": " + fe::detail::get_error_string(status), "",
                "set " + std::string(kField) + " to false");
  }

  cudnnHandle_t cudnn_ = nullptr;
  std::map<Key, std::unique_ptr<AttentionGraph>> graphs_;
};

std::shared_ptr<AttentionLibrary> make_attention_library() {
  return std::make_shared<AttentionLibrary>();
}

}  // namespace memwall::cuda

namespace memwall::launchers {
namespace {

// `samples` of them a call; operands by uid.
void start(const KernelCall& call, bool backward, int64_t samples,
           const std::vector<std::pair<cuda::Uid, const Tensor*>>& operands) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  const cuda::Context& context = cuda::context_of(call);
  const DType dtype = call.inputs[0].dtype;
  check(size_of(dtype) == 2, "cuDNN's attention is of 16 bits");
  const cuda::Key key{backward, dtype, samples, a.time, a.heads, a.size, a.scale};
  const auto address = reinterpret_cast<uintptr_t>(call.workspace.data());
  const auto skipped =
      static_cast<size_t>(-address % static_cast<uintptr_t>(cuda::kWorkspaceAlignment));
  for (int64_t first = 0; first < a.samples; first += samples) {
    cuda::Pointers pointers;
    for (const auto& [uid, tensor] : operands) {
      const int64_t offset = first * (tensor->elements() / a.samples) * size_of(tensor->dtype);
      std::byte* const at = tensor->as<std::byte>() + offset;
      check(reinterpret_cast<uintptr_t>(at) % cuda::kTensorAlignment == 0,
            "attention: an operand is less aligned than cuDNN needs");
      pointers[uid] = at;
    }
    context.attentions->start(context, key, pointers, call.workspace.subspan(skipped));
  }
}

}  // namespace

void attention(const KernelCall& call) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  start(call, false, a.samples,
        {{cuda::kQ, &call.inputs[0]},
         {cuda::kK, &call.inputs[1]},
         {cuda::kV, &call.inputs[2]},
         {cuda::kY, &call.outputs[0]},
         {cuda::kStatistics, &call.outputs[1]}});
}

void attention_grad(const KernelCall& call) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  start(call, true, a.samples_a_call,
        {{cuda::kDy, &call.inputs[0]},
         {cuda::kQ, &call.inputs[1]},
         {cuda::kK, &call.inputs[2]},
         {cuda::kV, &call.inputs[3]},
         {cuda::kY, &call.inputs[4]},
         {cuda::kStatistics, &call.inputs[5]},
         {cuda::kDq, &call.outputs[0]},
         {cuda::kDk, &call.outputs[1]},
         {cuda::kDv, &call.outputs[2]}});
}

}  // namespace memwall::launchers
