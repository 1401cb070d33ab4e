#include "runtime/exec/gpu/module.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "runtime/base/error.h"

namespace memwall {
namespace {

constexpr const char* kField = "run.device: CUDA";

// "": there is none.
std::string module_path() {
  std::error_code error;
  if (const char* named = std::getenv("MEMWALL_CUDA_MODULE")) {
    return std::filesystem::exists(named, error) ? named : "";
  }
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) throw Error("cannot read /proc/self/exe: " + error.message());
  for (const char* folder : {".", ".."}) {
    const auto path = program.parent_path() / folder / "libmemwall_cuda.so";
    if (std::filesystem::exists(path, error)) return path.lexically_normal().string();
  }
  return "";
}

[[noreturn]] void refuse_without_module() {
  if (const char* named = std::getenv("MEMWALL_CUDA_MODULE")) {
    throw InputError("there is no CUDA module " + std::string(named), kField,
                     "MEMWALL_CUDA_MODULE names it: unset it, or choose CPU");
  }
  throw InputError("the CUDA module libmemwall_cuda.so is not beside the program", kField,
                   "build with the CUDA Toolkit (cmake --preset cuda), or choose CPU");
}

const GpuModule& open_module() {
  const std::string path = module_path();
  if (path.empty()) refuse_without_module();
  // Its own symbols first: the twins of the kernels have the names that the program's have.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (library == nullptr) {
    throw InputError("the CUDA module cannot be opened: " + std::string(dlerror()), kField,
                     "install the CUDA libraries that it names, or choose CPU");
  }
  const auto entry = reinterpret_cast<GpuModuleEntry>(dlsym(library, kGpuModuleEntry));
  const GpuModule* const module = entry != nullptr ? entry(MEMWALL_VERSION) : nullptr;
  if (module == nullptr) {
    throw InputError(path + " is no CUDA module of version " MEMWALL_VERSION, kField,
                     "build program and module together");
  }
  return *module;
}

}  // namespace

bool has_gpu_module() {
  return !module_path().empty();
}

const GpuModule& open_gpu_module() {
  static const GpuModule& module = open_module();
  return module;
}

}  // namespace memwall
