// The module's entry.
#include <cstring>
#include <set>

#include "runtime/base/error.h"
#include "runtime/exec/gpu/cuda_device.h"
#include "runtime/exec/gpu/gemm_rate.h"
#include "runtime/exec/gpu/module.h"
#include "runtime/exec/gpu/nccl_communicator.h"
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/cuda/products.h"
#include "runtime/kernels/cuda/status.h"

namespace memwall::cuda {
namespace {

// In the order of the work, each once: the same on all ranks.
std::vector<Key> keys_of(const Context& context, const std::vector<GemmWork>& work) {
  std::set<Key> found;
  std::vector<Key> keys;
  for (const GemmWork& w : work) {
    const Key key =
        product_of(w.attributes, w.iteration, w.a, w.b, w.c, context.tf32, w.epilogue).key;
    if (found.insert(key).second) keys.push_back(key);
  }
  return keys;
}

class CudaModule final : public GpuModule {
 public:
  int devices() const override {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorNoDevice) return 0;
    if (status != cudaSuccess) {
      throw InputError(std::string("no GPU can be used: ") + cudaGetErrorString(status),
                       "run.device: CUDA", "check nvidia-smi and the driver, or choose CPU");
    }
    return count;
  }

  std::unique_ptr<Device> open(int index, bool tf32) const override {
    return std::make_unique<CudaDevice>(index, tf32);
  }

  Kernel (*kernels() const)(Op) override { return &kernel_of; }

  double measure_gemm_flops(Device& device, DType dtype) const override {
    return cuda::measure_gemm_flops(device, dtype);
  }

  std::string choose_products(Device& device, const std::vector<GemmWork>& work) const override {
    const Context& context = *static_cast<Context*>(device.context());
    return GemmCache::choose(context.blas, keys_of(context, work));
  }
  void take_products(Device& device, const std::vector<GemmWork>& work,
                     const std::string& choice) const override {
    const Context& context = *static_cast<Context*>(device.context());
    context.products->take(context.blas, keys_of(context, work), choice);
  }

  AttentionSupport attention_support(Device& device) const override {
    auto found = version_of_attention(*static_cast<Context*>(device.context()));
    return {std::move(found.version), std::move(found.refusal)};
  }

  void prepare_attention(Device& device, const std::vector<AttentionWork>& work) const override {
    const auto& context = *static_cast<Context*>(device.context());
    for (const AttentionWork& w : work) {
      cuda::prepare_attention(context, w.attributes, w.dtype, w.backward, w.workspace_bytes);
    }
  }

  std::unique_ptr<Communicator> nccl(Device& device, Communicator& host,
                                     double timeout_seconds) const override {
    return make_nccl_communicator(device, host, timeout_seconds);
  }
  std::unique_ptr<SharedArena> shared_arena(Communicator& nccl) const override {
    return make_shared_arena(nccl);
  }
};

}  // namespace
}  // namespace memwall::cuda

extern "C" __attribute__((visibility("default"))) const memwall::GpuModule* memwall_gpu_module(
    const char* version) {
  static const memwall::cuda::CudaModule module;
  return std::strcmp(version, MEMWALL_VERSION) == 0 ? &module : nullptr;
}
