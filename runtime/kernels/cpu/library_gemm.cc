#include "runtime/kernels/library_gemm.h"

#include <utility>

#include "runtime/base/gemm_panels.h"
#include "runtime/kernels/cpu/openmp_threads.h"
#include "runtime/kernels/cpu/sgemm.h"

namespace memwall {

void library_gemm(const GemmAttributes& given, const float* a, const float* b, float* c,
                  bool accumulate, int threads) {
  GemmAttributes g = given;
  if (has_transposed_result(g)) {
    g = transposed(g);
    std::swap(a, b);
  }
  const auto layout = [](const Strides& s, int64_t rows, int64_t columns) {
    return layout_of(s, rows, columns).value_or(Layout{'N', columns});
  };
  const Layout of_a = layout(g.a, g.m, g.k), of_b = layout(g.b, g.k, g.n);
  Layout of_c = layout(g.c, g.m, g.n);
  if (of_c.transpose == 'T') of_c = {'N', g.n};
  const cpu::OpenMpThreads scope(threads);
  for (int64_t batch = 0; batch < g.batch; ++batch) {
    const bool add = accumulate || (g.c.batch == 0 && batch > 0);
    cpu::whole_sgemm({.transpose_a = of_a.transpose,
                      .transpose_b = of_b.transpose,
                      .m = g.m,
                      .n = g.n,
                      .k = g.k,
                      .alpha = static_cast<float>(g.alpha),
                      .a = a + batch * g.a.batch,
                      .lda = of_a.leading,
                      .b = b + batch * g.b.batch,
                      .ldb = of_b.leading,
                      .beta = add ? 1.0f : 0.0f,
                      .c = c + batch * g.c.batch,
                      .ldc = of_c.leading});
  }
}

}  // namespace memwall
