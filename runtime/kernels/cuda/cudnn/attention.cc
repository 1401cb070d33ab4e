// Causal attention and its gradients by cuDNN, through its C++ front end ("Fused flash attention"
// in cuDNN's documentation). cuDNN is opened where the first call needs it: half a gigabyte that
// runs without it do without. The backward pass is the deterministic one.
#include <dlfcn.h>

#include <cstdlib>
#include <map>
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

// What MEMWALL_CUDNN names; else this module, in which imitated GPUs have their own cuDNN; else the
// library by its name. Why not, or "".
std::string open_cudnn() {
  const auto open = []() -> std::string {
    Dl_info self{};
    check(dladdr(reinterpret_cast<const void*>(&open_cudnn), &self) != 0, "dladdr of the module");
    // The front end looks for CUDA's runtime by a name of its own, which may be another version.
    setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", self.dli_fname, 0);
    const char* const named = std::getenv("MEMWALL_CUDNN");
    void* const module = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    check(module != nullptr, "the module is open");
    if (named == nullptr && dlsym(module, "cudnnCreate") != nullptr) {
      fe::cudnn_dlhandle = module;
      return "";
    }
    fe::cudnn_dlhandle = dlopen(named != nullptr ? named : "libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (fe::cudnn_dlhandle != nullptr) return "";
    return std::string("cuDNN 9 cannot be opened: ") + dlerror();
  };
  static const std::string refusal = open();
  return refusal;
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

Key key_of(const AttentionAttributes& a, DType dtype, bool backward) {
  check(size_of(dtype) == 2, "cuDNN's attention is of 16 bits");
  return {backward, dtype,  backward ? a.samples_a_call : a.samples, a.time, a.heads,
          a.size,   a.scale};
}

void describe(fe::graph::Tensor_attributes& tensor, const Key& key, Uid uid) {
  tensor.set_uid(uid);
  if (uid == kStatistics) {
    tensor.set_dim({key.samples, key.heads, key.time, 1})
        .set_stride({key.heads * key.time, key.time, 1, 1})
        .set_data_type(fe::DataType_t::FLOAT);
  } else {
    const int64_t row = key.heads * key.size;
    tensor.set_dim({key.samples, key.heads, key.time, key.size})
        .set_stride({key.time * row, key.size, row, 1});
  }
}

std::shared_ptr<fe::graph::Tensor_attributes> operand(fe::graph::Graph& graph, const Key& key,
                                                      Uid uid, const char* name) {
  fe::graph::Tensor_attributes tensor;
  tensor.set_name(name);
  describe(tensor, key, uid);
  return graph.tensor(tensor);
}

void give(const std::shared_ptr<fe::graph::Tensor_attributes>& result, const Key& key, Uid uid) {
  describe(*result, key, uid);
  result->set_output(true);
}

// Of a planned workspace: what comes before the part that cuDNN gets.
size_t skipped(uintptr_t address) {
  return static_cast<size_t>(-address % static_cast<uintptr_t>(kWorkspaceAlignment));
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
    const auto q = operand(graph_, key, kQ, "q"), k = operand(graph_, key, kK, "k"),
               v = operand(graph_, key, kV, "v");
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(true)
                       .set_attn_scale(static_cast<float>(key.scale))
                       .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                       .set_diagonal_band_right_bound(0);
    const auto [y, statistics] = graph_.sdpa(q, k, v, options);
    give(y, key, kY);
    give(statistics, key, kStatistics);
  }

  void add_backward(const Key& key) {
    const auto q = operand(graph_, key, kQ, "q"), k = operand(graph_, key, kK, "k"),
               v = operand(graph_, key, kV, "v"), y = operand(graph_, key, kY, "y"),
               dy = operand(graph_, key, kDy, "dy"),
               statistics = operand(graph_, key, kStatistics, "statistics");
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_grad")
                       .set_attn_scale(static_cast<float>(key.scale))
                       .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                       .set_diagonal_band_right_bound(0)
                       .set_deterministic_algorithm(true);
    const auto [dq, dk, dv] = graph_.sdpa_backward(q, k, v, y, dy, statistics, options);
    give(dq, key, kDq);
    give(dk, key, kDk);
    give(dv, key, kDv);
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
    graph(context, key, static_cast<int64_t>(workspace.size()))
        .start(cudnn_, pointers, workspace.data());
  }

  const AttentionGraph& graph(const Context& context, const Key& key, int64_t workspace_bytes) {
    if (cudnn_ == nullptr) {
      check(refusal_of_attention().empty(), "a plan with attention where cuDNN is missing");
      check_status(fe::detail::create_handle(&cudnn_), "cudnnCreate");
      check_status(fe::detail::set_stream(cudnn_, context.stream), "cudnnSetStream");
    }
    auto& found = graphs_[key];
    if (!found) found = std::make_unique<AttentionGraph>(cudnn_, key, workspace_bytes);
    return *found;
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

std::string refusal_of_attention() {
  return open_cudnn();
}

void prepare_attention(const Context& context, const AttentionAttributes& attributes, DType dtype,
                       bool backward, int64_t workspace_bytes) {
  context.attentions->graph(context, key_of(attributes, dtype, backward),
                            workspace_bytes - kWorkspaceAlignment);
}

}  // namespace memwall::cuda

namespace memwall::launchers {
namespace {

// Sample by sample, or so many at once as the plan says; operands by uid.
void start(const KernelCall& call, bool backward,
           const std::vector<std::pair<cuda::Uid, const Tensor*>>& operands) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  const cuda::Context& context = cuda::context_of(call);
  const cuda::Key key = cuda::key_of(a, call.inputs[0].dtype, backward);
  const size_t unaligned = cuda::skipped(reinterpret_cast<uintptr_t>(call.workspace.data()));
  for (int64_t first = 0; first < a.samples; first += key.samples) {
    cuda::Pointers pointers;
    for (const auto& [uid, tensor] : operands) {
      const int64_t offset = first * (tensor->elements() / a.samples) * size_of(tensor->dtype);
      std::byte* const at = tensor->as<std::byte>() + offset;
      check(reinterpret_cast<uintptr_t>(at) % cuda::kTensorAlignment == 0,
            "attention: an operand is less aligned than cuDNN needs");
      pointers[uid] = at;
    }
    context.attentions->start(context, key, pointers, call.workspace.subspan(unaligned));
  }
}

}  // namespace

void attention(const KernelCall& call) {
  start(call, false,
        {{cuda::kQ, &call.inputs[0]},
         {cuda::kK, &call.inputs[1]},
         {cuda::kV, &call.inputs[2]},
         {cuda::kY, &call.outputs[0]},
         {cuda::kStatistics, &call.outputs[1]}});
}

void attention_grad(const KernelCall& call) {
  start(call, true,
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
