// Causal attention and its gradients by cuDNN, through its C++ front end ("Fused flash attention"
// in cuDNN's documentation). cuDNN is opened where the first call needs it: half a gigabyte that
// runs without it do without. The backward pass is the deterministic one.
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <unordered_map>

#include "runtime/base/workspace.h"
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/cuda/context.h"
#include "runtime/kernels/cuda/cudnn/attention_graph.h"
#include "runtime/kernels/launchers/launchers.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // where the front end finds cuDNN
}

namespace memwall::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr int64_t kTensorAlignment = 16;

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

using Pointers = std::unordered_map<int64_t, void*>;

// Of a planned workspace: what comes before the part that cuDNN gets.
size_t skipped(uintptr_t address) {
  return static_cast<size_t>(-address % static_cast<uintptr_t>(kAttentionWorkspaceAlignment));
}

}  // namespace

class AttentionLibrary {
 public:
  AttentionLibrary() = default;
  ~AttentionLibrary() {
    graphs_.clear();
    if (cudnn_ != nullptr) fe::detail::destroy_handle(cudnn_);
  }
  AttentionLibrary(const AttentionLibrary&) = delete;
  AttentionLibrary& operator=(const AttentionLibrary&) = delete;

  void start(const Context& context, const AttentionKey& key, Pointers& pointers,
             std::span<std::byte> workspace) {
    const auto bytes = static_cast<int64_t>(workspace.size());
    const size_t unaligned = skipped(reinterpret_cast<uintptr_t>(workspace.data()));
    check_cudnn(graph(context, key, bytes).execute(cudnn_, pointers, workspace.data() + unaligned),
                "execute");
  }

  const fe::graph::Graph& graph(const Context& context, const AttentionKey& key,
                                int64_t workspace_bytes) {
    auto& found = graphs_[key];
    if (!found) found = build(context, key, workspace_bytes);
    return *found;
  }

  std::unique_ptr<fe::graph::Graph> build(const Context& context, const AttentionKey& key,
                                          int64_t workspace_bytes) {
    if (cudnn_ == nullptr) {
      check(open_cudnn().empty(), "a plan with attention where cuDNN is missing");
      check_status(fe::detail::create_handle(&cudnn_), "cudnnCreate");
      check_status(fe::detail::set_stream(cudnn_, context.stream), "cudnnSetStream");
    }
    auto graph = std::make_unique<fe::graph::Graph>();
    describe(*graph, key);
    check_cudnn(graph->build(cudnn_, {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}),
                "build of attention");
    check_workspace(*graph, workspace_bytes);
    return graph;
  }

 private:
  static void check_status(cudnnStatus_t status, const char* call) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    check_cudnn({fe::error_code_t::CUDNN_BACKEND_API_FAILED, fe::detail::get_error_string(status)},
                call);
  }

  cudnnHandle_t cudnn_ = nullptr;
  std::map<AttentionKey, std::unique_ptr<fe::graph::Graph>> graphs_;
};

std::shared_ptr<AttentionLibrary> make_attention_library() {
  return std::make_shared<AttentionLibrary>();
}

AttentionVersion version_of_attention(const Context& context) {
  std::string refusal = open_cudnn();
  if (!refusal.empty()) return {"", refusal};
  try {
    // What it lacks, such as NVRTC or kernels for this GPU, shows when it compiles.
    AttentionAttributes smallest{.samples = 1, .time = 64, .heads = 1, .size = 64, .scale = 0.125};
    choose_device_calls(smallest);
    for (bool backward : {false, true}) {
      context.attentions->build(context, key_of(smallest, DType::kBF16, backward),
                                device_attention_grad_workspace_bytes(smallest));
    }
    return {"cuDNN " + std::to_string(fe::detail::get_backend_version()), ""};
  } catch (const std::exception& error) {
    refusal = error.what();
    return {"", refusal.substr(0, refusal.find('\n'))};
  }
}

void prepare_attention(const Context& context, const AttentionAttributes& attributes, DType dtype,
                       bool backward, int64_t workspace_bytes) {
  context.attentions->graph(context, key_of(attributes, dtype, backward), workspace_bytes);
}

}  // namespace memwall::cuda

namespace memwall::launchers {
namespace {

// As many samples and heads a call as the plan says; operands by uid.
void start(const KernelCall& call, bool backward,
           const std::vector<std::pair<cuda::AttentionUid, const Tensor*>>& operands) {
  const auto& a = std::get<AttentionAttributes>(call.attributes);
  const cuda::Context& context = cuda::context_of(call);
  const cuda::AttentionKey key = cuda::key_of(a, call.inputs[0].dtype, backward);
  // Where a call's part of an operand begins, in elements.
  const auto offset_of = [&](cuda::AttentionUid uid, int64_t sample, int64_t head) {
    if (uid == cuda::kStatistics) return (sample * a.heads + head) * a.time;
    return (sample * a.time * a.heads + head) * a.size;
  };
  for (int64_t sample = 0; sample < a.samples; sample += key.samples) {
    for (int64_t head = 0; head < a.heads; head += key.heads) {
      cuda::Pointers pointers;
      for (const auto& [uid, tensor] : operands) {
        std::byte* const at =
            tensor->as<std::byte>() + offset_of(uid, sample, head) * size_of(tensor->dtype);
        check(reinterpret_cast<uintptr_t>(at) % cuda::kTensorAlignment == 0,
              "attention: an operand is less aligned than cuDNN needs");
        pointers[uid] = at;
      }
      context.attentions->start(context, key, pointers, call.workspace);
    }
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
