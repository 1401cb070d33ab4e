// FP32 products go to oneDNN's sgemm, which is never called from inside a parallel region: there
// it takes a path four times slower. Everything else goes to PlainGemm.
#include "runtime/kernels/gemm.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "runtime/kernels/cpu/launch.h"
#include "runtime/kernels/cpu/openmp_threads.h"

namespace memwall::cpu {
namespace {

Strides transposed(const Strides& s) {
  return {s.batch, s.column, s.row};
}

// c^T = b^T a^T.
GemmAttributes transposed(const GemmAttributes& g) {
  GemmAttributes t = g;
  t.m = g.n;
  t.n = g.m;
  t.a = transposed(g.b);
  t.b = transposed(g.a);
  t.c = transposed(g.c);
  return t;
}

// How sgemm names a matrix (rows, columns): 'N' where rows are contiguous, 'T' where columns are.
struct Layout {
  char transpose;
  int64_t leading;  // elements between contiguous runs
};

std::optional<Layout> layout_of(const Strides& s, int64_t rows, int64_t columns) {
  if ((s.column == 1 || columns == 1) && (s.row >= columns || rows == 1)) {
    return Layout{'N', rows == 1 ? columns : s.row};
  }
  if ((s.row == 1 || rows == 1) && (s.column >= rows || columns == 1)) {
    return Layout{'T', columns == 1 ? rows : s.column};
  }
  return std::nullopt;
}

// Products of at most this depth. oneDNN 2.6.3 divides a deeper one among threads where the result
// is small (128 x 512 x 1024, A B^T, differs between one thread and two), and then its bits depend
// on their number; up to 320 it was never seen to, on 1 to 16 threads, and 256 is free: 0.90 to
// 1.02 of the time of whole products over GPT-2's shapes, its own blocks being about as deep.
constexpr int64_t kDepth = 256;

struct SgemmCall {
  Layout a, b;
  int64_t ldc;
  const GemmAttributes& g;
};

// c = alpha a b (+ c), one batch.
void sgemm(const SgemmCall& call, const float* a, const float* b, float* c, bool add) {
  const GemmAttributes& g = call.g;
  for (int64_t k = 0; k < g.k; k += kDepth) {
    const dnnl_status_t status =
        dnnl_sgemm(call.a.transpose, call.b.transpose, g.m, g.n, std::min(kDepth, g.k - k),
                   static_cast<float>(g.alpha), a + k * g.a.column, call.a.leading, b + k * g.b.row,
                   call.b.leading, add || k > 0 ? 1.0f : 0.0f, c, call.ldc);
    if (status != dnnl_success) {
      throw Error("dnnl_sgemm failed with status " + std::to_string(status) +
                  " for m = " + std::to_string(g.m) + ", n = " + std::to_string(g.n) +
                  ", k = " + std::to_string(g.k));
    }
  }
}

// Whether sgemm can do it; if so it is done.
bool sgemm_batches(const GemmAttributes& g, const float* a, const float* b, float* c,
                   bool accumulate, int threads) {
  const auto layout_a = layout_of(g.a, g.m, g.k), layout_b = layout_of(g.b, g.k, g.n);
  const auto layout_c = layout_of(g.c, g.m, g.n);
  if (!layout_a || !layout_b || !layout_c || layout_c->transpose != 'N') return false;
  const OpenMpThreads scope(threads);
  const SgemmCall call{*layout_a, *layout_b, layout_c->leading, g};
  for (int64_t i = 0; i < g.batch; ++i) {
    const bool add = accumulate || (i > 0 && g.c.batch == 0);
    sgemm(call, a + i * g.a.batch, b + i * g.b.batch, c + i * g.c.batch, add);
  }
  return true;
}

// Rows [first, m) of every batch of c.
template <class T>
void zero_rows(const GemmAttributes& g, int64_t first, T* c) {
  for (int64_t batch = 0; batch < (g.c.batch == 0 ? 1 : g.batch); ++batch) {
    for (int64_t i = first; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        c[batch * g.c.batch + i * g.c.row + j * g.c.column] = T{0};
      }
    }
  }
}

template <class T>
void gemm_of(const KernelCall& call) {
  const auto& whole = std::get<GemmAttributes>(call.attributes);
  GemmAttributes g = limited(whole, call.iteration);
  const T* a = call.inputs[0].as<const T>();
  const T* b = call.inputs[1].as<const T>();
  T* c = call.outputs[0].as<T>();
  if (!call.accumulate && g.m < whole.m) zero_rows(whole, g.m, c);
  if (g.c.column != 1 && g.c.row == 1) {
    g = transposed(g);
    std::swap(a, b);
  }
  if constexpr (std::is_same_v<T, float>) {
    if (sgemm_batches(g, a, b, c, call.accumulate, call.threads)) return;
  }
  const PlainGemm<T> kernel{a, b, c, g, call.accumulate};
  launch(call.threads, kernel.tiles(), 2 * kernel.kRows * g.k, kernel);
}

}  // namespace

void gemm(const KernelCall& call) {
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) { gemm_of<T>(call); });
}

}  // namespace memwall::cpu
