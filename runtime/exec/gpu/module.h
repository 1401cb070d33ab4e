// The CUDA module: a shared library of its own, opened where a run asks for a GPU, so that the
// program starts on machines without CUDA's libraries.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "runtime/base/device.h"
#include "runtime/base/op.h"
#include "runtime/kernels/kernel.h"

namespace memwall {

// A kGemm step in an iteration of its body.
struct GemmWork {
  GemmAttributes attributes;
  int64_t iteration = 0;
  DType a = DType::kF32, b = DType::kF32, c = DType::kF32;
  Epilogue epilogue = Epilogue::kNone;
};

struct AttentionSupport {
  std::string version, refusal;  // one of them is ""
};

// A kAttention or kAttentionGrad step.
struct AttentionWork {
  AttentionAttributes attributes;
  DType dtype = DType::kBF16;
  bool backward = false;
  int64_t workspace_bytes = 0;  // planned
};

// An arena that NCCL's other ranks reach.
class SharedArena : public ArenaMemory {
 public:
  // Registers what was allocated, which has the same size on all ranks, as a symmetric window;
  // collective. It is over when the memory is released. Throws an InputError where there are no
  // windows.
  virtual void share() = 0;
};

class GpuModule {
 public:
  virtual ~GpuModule() = default;
  // How many GPUs this process may use. Throws an Error with CUDA's text where the driver is
  // missing or too old.
  virtual int devices() const = 0;
  // Throws an Error where there is no such GPU, or none that the module has code for.
  // `tf32`: FP32 products may round their operands to TF32.
  virtual std::unique_ptr<Device> open(int index, bool tf32 = false) const = 0;
  // kernel_of (kernels/kernel.h) of the GPU.
  virtual Kernel (*kernels() const)(Op) = 0;
  // FLOP/s of large products of `dtype`, measured for about 0.1 s. Takes a GiB for the while.
  virtual double measure_gemm_flops(Device& device, DType dtype) const = 0;
  // The algorithms of these products, chosen on this GPU, for all ranks.
  virtual std::string choose_products(Device& device, const std::vector<GemmWork>& work) const = 0;
  // From here on the GPU starts these products, by that choice for the same list, and no others.
  // Throws an Error where it cannot.
  virtual void take_products(Device& device, const std::vector<GemmWork>& work,
                             const std::string& choice) const = 0;
  // Opens the library of attention as one op (passes/fuse_attention.h): its version, or why it
  // cannot be used on this GPU.
  virtual AttentionSupport attention_support(Device& device) const = 0;
  // Readies these steps. Throws an Error where the library wants more workspace than is planned.
  virtual void prepare_attention(Device& device, const std::vector<AttentionWork>& work) const = 0;
  // Collectives over NCCL between the GPUs of the job's ranks; collective. `host` bootstraps it,
  // carries what is not a plan's, and must outlive it.
  virtual std::unique_ptr<Communicator> nccl(Device& device, Communicator& host,
                                             double timeout_seconds) const = 0;
  // `nccl`: what the function above has made; it must outlive the arena.
  virtual std::unique_ptr<SharedArena> shared_arena(Communicator& nccl) const = 0;
};

// Whether there is a module to open.
bool has_gpu_module();

// Opens libmemwall_cuda.so, which lies beside the program, or what MEMWALL_CUDA_MODULE names; it
// stays open. Throws an InputError where there is none or it cannot be opened.
const GpuModule& open_gpu_module();

// The module's one symbol; nullptr where the program is of another version.
using GpuModuleEntry = const GpuModule* (*)(const char* version);
inline constexpr const char* kGpuModuleEntry = "memwall_gpu_module";

}  // namespace memwall
