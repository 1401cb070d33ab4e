#include "runtime/cli/gpu.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>

#include "comm/agree.h"
#include "comm/host.h"
#include "comm/staged/staged_communicator.h"
#include "runtime/base/math.h"
#include "runtime/cli/window_rounding.h"
#include "runtime/exec/gpu/module.h"
#include "runtime/passes/select.h"

namespace memwall {
namespace {

constexpr const char* kField = "run.device: CUDA";

// The driver's library, or a module that was named. The module itself is not opened to find that
// out: it brings hundreds of megabytes of libraries.
bool has_driver() {
  if (std::getenv("MEMWALL_CUDA_MODULE") != nullptr) return true;
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver != nullptr) dlclose(driver);
  return driver != nullptr;
}

bool has_usable_gpu(bool speaks) {
  if (!has_gpu_module() || !has_driver()) return false;
  try {
    return open_gpu_module().devices() > 0;
  } catch (const Error& error) {
    std::error_code ignored;
    if (speaks && std::filesystem::exists("/dev/nvidiactl", ignored)) {  // NVIDIA's driver
      fmt::print(stderr, "memwall: warning: trains on the CPU: {}\n", error.what());
    }
    return false;
  }
}

void check_target(const DeviceInfo& info) {
  std::string built;
  for (const char* target : kGpuTargets) {
    if (info.target == target) return;
    built.append(built.empty() ? "" : ", ").append(target);
  }
  throw InputError(fmt::format("GPU {} ({}) is of compute capability {}", info.index, info.name,
                               info.capability),
                   kField, "this version makes plans for " + built);
}

// Collective. By address, for a launcher may show each rank another GPU as its only one.
void find_sharing(Gpu& gpu, Communicator& comm) {
  const std::string host = host_name() + ' ', mine = host + gpu.device->info().address;
  std::set<std::string> here;
  gpu.ranks_sharing = 0;
  for (const std::string& theirs : comm.gather_text(mine)) {
    gpu.ranks_sharing += theirs == mine ? 1 : 0;
    if (theirs.starts_with(host)) here.insert(theirs);
  }
  gpu.gpus_of_host = static_cast<int64_t>(here.size());
}

}  // namespace

std::string Gpu::text() const {
  if (device == nullptr) return "";
  const DeviceInfo& info = device->info();
  return fmt::format("{}, {}, {}", info.name, info.target, info.versions);
}

std::vector<std::pair<std::string, int64_t>> Gpu::memory() const {
  if (device == nullptr) return {};
  std::vector<std::pair<std::string, int64_t>> lines = {{"gpu_context", context_bytes},
                                                        {"gpu_communicator", communicator_bytes}};
  if (attention_bytes > 0) lines.emplace_back("gpu_cudnn", attention_bytes);
  if (arena != nullptr) lines.emplace_back("gpu_window_rounding", window_rounding_bytes);
  return lines;
}

void settle_device(config::Config& config, bool speaks) {
  if (config.run().device() == config::Run::CPU) return;
  if (config.run().device() == config::Run::AUTO) {
    if (has_usable_gpu(speaks)) config.mutable_run()->set_device(config::Run::CUDA);
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
    gpu.context_bytes = gpu.device->info().bytes - gpu.device->free_bytes();
    gpu.kernel = module.kernels();
    check_target(gpu.device->info());
  });
  find_sharing(gpu, job.comm());
  const DeviceInfo& info = gpu.device->info();
  const std::vector<std::string> names = job.comm().gather_text(
      fmt::format("{} GPU {} ({}, {})", host_name(), info.index, info.name, info.target));
  if (!job.speaks()) return gpu;
  for (size_t r = 0; r < names.size(); ++r) fmt::print("rank {}: {}\n", r, names[r]);
  fmt::print("{}\n", info.versions);
  return gpu;
}

void refuse_over_gpu(const Plan& plan, const config::Config& config, const Gpu& gpu) {
  const int sharing = gpu.ranks_sharing;
  const int64_t needed = sharing * (round_up(plan.arena_bytes, plan.page_bytes) +
                                    planned_window_rounding(plan, config));
  const int64_t left = gpu.device->free_bytes();
  if (needed <= left) return;
  const DeviceInfo& info = gpu.device->info();
  throw BudgetError(
      fmt::format("{} rank{} on GPU {} ({}) need{} {} bytes for {}, and {} of its {} are free",
                  sharing, sharing == 1 ? "" : "s", info.index, info.name, sharing == 1 ? "s" : "",
                  needed, sharing == 1 ? "its arena" : "their arenas", left, info.bytes),
      "",
      "end what else runs on it (nvidia-smi names it), or take more GPUs, a higher "
      "parallel.zero_stage or a smaller micro-batch");
}

Hosting hosting_with(const Gpu& gpu, Job& job) {
  Hosting hosting = hosting_of(job.session());
  hosting.gpus_on_host = gpu.gpus_of_host;
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

void connect_gpus(Gpu& gpu, const Fabric& fabric, const config::Communication& links, Job& job) {
  if (job.ranks() == 1) return;
  const int64_t before = gpu.device->free_bytes();
  run_together(job.comm(), [&] {
    if (fabric.transport == Transport::kNccl) {
      gpu.transfers = open_gpu_module().nccl(*gpu.device, job.comm(), links.timeout_seconds());
      if (links.symmetric_windows()) gpu.arena = open_gpu_module().shared_arena(*gpu.transfers);
    } else {
      gpu.transfers = std::make_unique<StagedCommunicator>(*gpu.device, job.comm());
    }
  });
  gpu.communicator_bytes = before - gpu.device->free_bytes();
}

void share_arena(Gpu& gpu, const Executor& executor, const config::Config& config, Job& job) {
  if (gpu.arena == nullptr) return;
  run_together(job.comm(), [&] {
    const int64_t planned = planned_window_rounding(executor.plan(), config);
    gpu.window_rounding_bytes = executor.device_rounding_bytes();
    if (gpu.window_rounding_bytes <= planned) return;
    throw BudgetError(
        fmt::format("NCCL has rounded the arena of {} bytes up by {}, and {} are planned for {}",
                    executor.device_arena_bytes(), gpu.window_rounding_bytes, planned,
                    executor.plan().target),
        "communication.symmetric_windows: true", "leave it out, or take another version of NCCL");
  });
  run_together(job.comm(), [&] { gpu.arena->share(); });
}

}  // namespace memwall
