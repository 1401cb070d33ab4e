#include "runtime/kernels/cpu/openblas_core.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace memwall::cpu {
namespace {

// Names of gotoblas_corename() in OpenBLAS 0.3.21, driver/others/dynamic.c, without those whose
// kernels use AVX-512 (SkylakeX, Cooperlake, SapphireRapids).
constexpr std::array<std::string_view, 23> kWithoutAvx2 = {
    "generic",     "unknown",   "katmai",       "coppermine",  "northwood",  "prescott",
    "banias",      "atom",      "core2",        "penryn",      "dunnington", "nehalem",
    "athlon",      "opteron",   "opteron_sse3", "barcelona",   "bobcat",     "nano",
    "sandybridge", "bulldozer", "piledriver",   "steamroller", "excavator"};
constexpr std::array<std::string_view, 2> kWithAvx2 = {"haswell", "zen"};

bool contains(const auto& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string old_core_warning(std::string_view core, bool has_avx2, bool has_avx512) {
  std::string name(core);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool without_avx2 = contains(kWithoutAvx2, name);
  const bool old =
      (has_avx2 && without_avx2) || (has_avx512 && (without_avx2 || contains(kWithAvx2, name)));
  if (!old) return "";
  return "OpenBLAS takes this processor for \"" + std::string(core) + "\" and does not use its " +
         (has_avx512 ? "AVX-512" : "AVX2") +
         ": products are slow; set OPENBLAS_CORETYPE=" + (has_avx512 ? "SKYLAKEX" : "HASWELL") +
         " on all ranks (mpirun -x OPENBLAS_CORETYPE), or build with -DMEMWALL_BLAS=ONEDNN";
}

}  // namespace memwall::cpu
