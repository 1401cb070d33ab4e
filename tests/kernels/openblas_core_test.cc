// What OpenBLAS says of the processor, against what the processor can do.
#include <gtest/gtest.h>

#include "runtime/kernels/cpu/openblas_core.h"
#include "runtime/kernels/machine.h"

namespace memwall::test {
namespace {

using cpu::old_core_warning;

TEST(OpenBlasCore, AnOldOneIsNamedWithWhatToSet) {
  const std::string text = old_core_warning("Prescott", true, true);
  EXPECT_NE(text.find("\"Prescott\" and does not use its AVX-512"), std::string::npos) << text;
  EXPECT_NE(text.find("OPENBLAS_CORETYPE=SKYLAKEX"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos);

  const std::string avx2 = old_core_warning("Sandybridge", true, false);
  EXPECT_NE(avx2.find("\"Sandybridge\" and does not use its AVX2"), std::string::npos) << avx2;
  EXPECT_NE(avx2.find("OPENBLAS_CORETYPE=HASWELL"), std::string::npos) << avx2;
}

TEST(OpenBlasCore, Avx2KernelsAreOldWhereThereIsAvx512) {
  for (const char* core : {"Haswell", "Zen"}) {
    EXPECT_NE(old_core_warning(core, true, true), "") << core;
    EXPECT_EQ(old_core_warning(core, true, false), "") << core;
  }
}

TEST(OpenBlasCore, NoWarningWhereTheKernelsFit) {
  for (const char* core : {"SkylakeX", "Cooperlake", "SapphireRapids"}) {
    EXPECT_EQ(old_core_warning(core, true, true), "") << core;
  }
  for (const char* core : {"Prescott", "Nehalem", "Sandybridge"}) {
    EXPECT_EQ(old_core_warning(core, false, false), "") << core;
  }
  EXPECT_EQ(old_core_warning("GraniteRapids", true, true), "");  // newer than the list
}

TEST(OpenBlasCore, SpellingDoesNotMatter) {
  EXPECT_NE(old_core_warning("PRESCOTT", true, true), "");
  EXPECT_NE(old_core_warning("Opteron_SSE3", true, true), "");
}

TEST(OpenBlasCore, TheLibraryInUseIsNamed) {
  const std::string library = gemm_library();
  EXPECT_TRUE(library.starts_with("oneDNN ") || library.starts_with("OpenBLAS ")) << library;
  EXPECT_NE(library.find_first_of("0123456789"), std::string::npos) << library;
}

}  // namespace
}  // namespace memwall::test
