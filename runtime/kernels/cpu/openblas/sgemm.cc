// OpenBLAS works on one thread at a time here. How it would divide a product depends on the number
// of threads, and nothing promises that the bits do not; so tiles are cut by the shape alone and
// dealt to the threads. Its OpenMP build sees that it is called inside a parallel region.
#include "runtime/kernels/cpu/sgemm.h"

#include <cblas.h>
#include <omp.h>

#include <limits>
#include <string>

#include "runtime/base/error.h"
#include "runtime/kernels/cpu/openblas_core.h"
#include "runtime/kernels/cpu/openmp_threads.h"
#include "runtime/kernels/machine.h"

namespace memwall {
namespace cpu {
namespace {

// Elements of a tile. Every tile packs its operands anew: smaller ones are slower, larger ones
// leave threads without work. Over GPT-2's step the kernel reaches 0.91 of whole calls' rate on one
// thread, 0.97 on two.
constexpr int64_t kTile = 300'000;
// A product is cut into up to kParts even where it is smaller, if each has this many products:
// about 0.1 ms.
constexpr int64_t kParts = 4, kProducts = int64_t{1} << 23;
constexpr int64_t kAlignment = 16;  // of a cut: whole registers

struct Cuts {
  int64_t rows = 1, columns = 1;  // parts
};

Cuts cuts_of(const Sgemm& call) {
  Cuts cuts;
  while (true) {
    const int64_t rows = call.m / cuts.rows, columns = call.n / cuts.columns;
    const bool few = cuts.rows * cuts.columns < kParts && rows * columns * call.k > kProducts;
    if (rows * columns <= kTile && !few) return cuts;
    if (columns >= rows) {
      cuts.columns *= 2;
    } else {
      cuts.rows *= 2;
    }
  }
}

// Where part `i` of `parts` begins.
int64_t begin_of(int64_t i, int64_t parts, int64_t extent) {
  return i == parts ? extent : extent * i / parts / kAlignment * kAlignment;
}

// Columns first, as BLAS has it: c^T = b^T a^T. That also keeps it from a path of its own that it
// has for row-major products with beta = 0.
void call_blas(const Sgemm& g) {
  const auto transpose = [](char c) { return c == 'T' ? CblasTrans : CblasNoTrans; };
  const auto narrow = [](int64_t x) { return static_cast<blasint>(x); };
  cblas_sgemm(CblasColMajor, transpose(g.transpose_b), transpose(g.transpose_a), narrow(g.n),
              narrow(g.m), narrow(g.k), g.alpha, g.b, narrow(g.ldb), g.a, narrow(g.lda), g.beta,
              g.c, narrow(g.ldc));
}

void multiply_tile(const Sgemm& call, const Cuts& cuts, int64_t tile) {
  const int64_t i = tile / cuts.columns, j = tile % cuts.columns;
  const int64_t row = begin_of(i, cuts.rows, call.m);
  const int64_t column = begin_of(j, cuts.columns, call.n);
  Sgemm part = call;
  part.m = begin_of(i + 1, cuts.rows, call.m) - row;
  part.n = begin_of(j + 1, cuts.columns, call.n) - column;
  part.a += call.transpose_a == 'T' ? row : row * call.lda;
  part.b += call.transpose_b == 'T' ? column * call.ldb : column;
  part.c += row * call.ldc + column;
  call_blas(part);
}

void check_sizes(const Sgemm& call) {
  for (int64_t size : {call.m, call.n, call.k, call.lda, call.ldb, call.ldc}) {
    if (size >= 0 && size <= std::numeric_limits<blasint>::max()) continue;
    throw Error("OpenBLAS takes no matrix with " + std::to_string(size) +
                " rows or columns: build with -DMEMWALL_BLAS=ONEDNN");
  }
}

}  // namespace

void sgemm(const Sgemm& call) {
  check_sizes(call);
  const Cuts cuts = cuts_of(call);
  const int64_t tiles = cuts.rows * cuts.columns;
  const int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  if (threads == 1 || tiles == 1) {
    const OpenMpThreads one(1);
    for (int64_t tile = 0; tile < tiles; ++tile) multiply_tile(call, cuts, tile);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t tile = 0; tile < tiles; ++tile) multiply_tile(call, cuts, tile);
}

void whole_sgemm(const Sgemm& call) {
  check_sizes(call);
  call_blas(call);
}

}  // namespace cpu

std::string gemm_library() {
  const std::string config = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE ..."
  const size_t version = config.find(' ') + 1;
  return config.substr(0, config.find(' ', version)) + " " + openblas_get_corename();
}

std::string gemm_library_warning() {
  if (openblas_get_parallel() == OPENBLAS_THREAD) {
    return "the OpenBLAS that was loaded has threads of its own, which fight with OpenMP's: "
           "products are slow; let the loader find its OpenMP build (Debian: libopenblas0-openmp; "
           "look at LD_LIBRARY_PATH and LD_PRELOAD)";
  }
  __builtin_cpu_init();
  return cpu::old_core_warning(openblas_get_corename(), __builtin_cpu_supports("avx2") != 0,
                               __builtin_cpu_supports("avx512f") != 0);
}

}  // namespace memwall
