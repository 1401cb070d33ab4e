#include "runtime/cli/gpu.h"

#include <fmt/format.h>

#include "comm/agree.h"
#include "comm/host.h"
#include "comm/staged/staged_communicator.h"
#include "runtime/exec/gpu/module.h"
#include "runtime/passes/select.h"

namespace memwall {
namespace {

constexpr const char* kField = "run.device: CUDA";

bool has_usable_gpu() {
  try {
    return open_gpu_module().devices() > 0;
  } catch (const Error&) {
    return false;
  }
}

void check_target(const DeviceInfo& info) {
  std::string built;
  for (const char* target : kGpuTargets) {
    if (info.target == target) return;
    built.append(built.empty() ? "" : ", ").append(target);
  }
  throw InputError(
      fmt::format("GPU {} ({}) is of compute capability {}", info.index, info.name, info.target),
      kField, "this version makes plans for " + built);
}

}  // namespace

std::string Gpu::text() const {
  if (device == nullptr) return "";
  const DeviceInfo& info = device->info();
  return fmt::format("{}, {}, {}", info.name, info.target, info.versions);
}

std::vector<std::pair<std::string, int64_t>> Gpu::memory() const {
  if (device == nullptr) return {};
  return {{"gpu_context", context_bytes}, {"gpu_communicator", communicator_bytes}};
}

void settle_device(config::Config& config) {
  if (config.run().device() == config::Run::CPU) return;
  if (config.run().device() == config::Run::AUTO) {
    config.mutable_run()->set_device(has_usable_gpu() ? config::Run::CUDA : config::Run::CPU);
    return;
  }
  if (open_gpu_module().devices() == 0) {
    throw InputError("this host has no GPU that CUDA can use", kField,
                     "check nvidia-smi and CUDA_VISIBLE_DEVICES, or choose CPU");
  }
}

Gpu open_gpu(const config::Precision& precision, Job& job) {
  Gpu gpu;
  run_together(job.comm(), [&] {
    const GpuModule& module = open_gpu_module();
    const int local = job.rank_on_host();
    gpu.device = module.open(local % module.devices(), precision.tf32());
    gpu.kernel = module.kernels();
    gpu.context_bytes = gpu.device->info().bytes - gpu.device->free_bytes();
    check_target(gpu.device->info());
  });
  gpu.free_bytes = gpu.device->free_bytes();
  const DeviceInfo& info = gpu.device->info();
  const std::vector<std::string> names = job.comm().gather_text(
      fmt::format("{} GPU {} ({}, {})", host_name(), info.index, info.name, info.target));
  if (!job.speaks()) return gpu;
  for (size_t r = 0; r < names.size(); ++r) fmt::print("rank {}: {}\n", r, names[r]);
  fmt::print("{}\n", info.versions);
  return gpu;
}

Hosting hosting_with(const Gpu& gpu, Job& job) {
  Hosting hosting = hosting_of(job.session());
  hosting.gpus_on_host = open_gpu_module().devices();
  hosting.gpu_target = gpu.device->info().target;
  return hosting;
}

double gpu_gemm_flops(Gpu& gpu, DType dtype, Job& job) {
  double flops = 0.0;
  for (int turn = 0; turn < job.ranks_on_host(); ++turn) {
    run_together(job.comm(), [&] {
      if (turn == job.rank_on_host()) {
        flops = open_gpu_module().measure_gemm_flops(*gpu.device, dtype);
      }
    });
  }
  return flops;
}

void connect_gpus(Gpu& gpu, const Fabric& fabric, double timeout_seconds, Job& job) {
  if (job.ranks() == 1) return;
  const int64_t before = gpu.device->free_bytes();
  run_together(job.comm(), [&] {
    if (fabric.transport == Transport::kNccl) {
      gpu.transfers = open_gpu_module().nccl(*gpu.device, job.comm(), timeout_seconds);
    } else {
      gpu.transfers = std::make_unique<StagedCommunicator>(*gpu.device, job.comm());
    }
  });
  gpu.communicator_bytes = before - gpu.device->free_bytes();
}

}  // namespace memwall
