// Of a build without cuDNN's headers: attention cannot be one op. The twin of cudnn/attention.cc.
#include "runtime/base/error.h"
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/launchers/launchers.h"

namespace memwall::cuda {

constexpr const char* kRefusal = "this build has no cuDNN";

class AttentionLibrary {};

std::shared_ptr<AttentionLibrary> make_attention_library() {
  return nullptr;
}

AttentionVersion version_of_attention(const Context&) {
  return {"", kRefusal};
}

void prepare_attention(const Context&, const AttentionAttributes&, DType, bool, int64_t) {
  throw InternalError(kRefusal);
}

}  // namespace memwall::cuda

namespace memwall::launchers {

void attention(const KernelCall&) {
  throw InternalError(cuda::kRefusal);
}
void attention_grad(const KernelCall&) {
  throw InternalError(cuda::kRefusal);
}

}  // namespace memwall::launchers
