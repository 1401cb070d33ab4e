#include "runtime/kernels/cpu/sgemm.h"

#include <oneapi/dnnl/dnnl.h>

#include <string>

#include "runtime/base/error.h"
#include "runtime/kernels/machine.h"

namespace memwall {
namespace cpu {

void sgemm(const Sgemm& call) {
  const dnnl_status_t status =
      dnnl_sgemm(call.transpose_a, call.transpose_b, call.m, call.n, call.k, call.alpha, call.a,
                 call.lda, call.b, call.ldb, call.beta, call.c, call.ldc);
  if (status != dnnl_success) {
    throw Error("dnnl_sgemm failed with status " + std::to_string(status) +
                " for m = " + std::to_string(call.m) + ", n = " + std::to_string(call.n) +
                ", k = " + std::to_string(call.k));
  }
}

void whole_sgemm(const Sgemm& call) {
  sgemm(call);
}

}  // namespace cpu

std::string gemm_library() {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

// It generates its code for the processor it finds.
std::string gemm_library_warning() {
  return "";
}

}  // namespace memwall
