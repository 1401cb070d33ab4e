#include "runtime/kernels/machine.h"

#include <chrono>
#include <vector>

#include "runtime/kernels/kernel.h"
#include "runtime/kernels/pack.h"

namespace memwall {

std::string cpu_features() {
  std::string out;
  const auto add = [&](bool supported, const char* name) {
    if (supported) out.append(name).append(" ");
  };
  __builtin_cpu_init();
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512bw"), "avx512bw");
  add(__builtin_cpu_supports("avx512vl"), "avx512vl");
  add(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("fma"), "fma");
  out.append("compiled for " MEMWALL_ARCH ", ").append(std::to_string(kRegisterBytes));
  out.append("-byte registers; ").append(gemm_library());
  return out;
}

double measure_gemm_flops(int threads) {
  constexpr int64_t kM = 512, kN = 768, kK = 768;
  constexpr double kSeconds = 0.2;
  std::vector<float> a(kM * kK, 0.5f), b(kK * kN, 0.25f), c(kM * kN);
  GemmAttributes g;
  g.m = kM;
  g.n = kN;
  g.k = kK;
  g.a = {0, kK, 1};
  g.b = {0, kN, 1};
  g.c = {0, kN, 1};
  const Attributes attributes = g;
  const Tensor inputs[] = {{a.data(), DType::kF32, {kM, kK}}, {b.data(), DType::kF32, {kK, kN}}};
  const Tensor outputs[] = {{c.data(), DType::kF32, {kM, kN}}};
  const KernelCall call{.attributes = attributes,
                        .inputs = inputs,
                        .outputs = outputs,
                        .unit = nullptr,
                        .workspace = {},
                        .threads = threads};
  const Kernel gemm = kernel_of(Op::kGemm);
  gemm(call);  // code generation, first touch
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  double seconds = 0.0;
  int64_t products = 0;
  for (; seconds < kSeconds; ++products) {
    gemm(call);
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return 2.0 * kM * kN * kK * static_cast<double>(products) / seconds;
}

}  // namespace memwall
