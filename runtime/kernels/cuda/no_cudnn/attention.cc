// Of a build without cuDNN's headers: attention cannot be one op. The twin of cudnn/attention.cc.
#include "runtime/base/error.h"
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/launchers/launchers.h"

namespace memwall::cuda {

class AttentionLibrary {};

std::shared_ptr<AttentionLibrary> make_attention_library() {
  return nullptr;
}

std::string refusal_of_attention() {
  return "this build has no cuDNN";
}

void prepare_attention(const Context&, const AttentionAttributes&, DType, bool, int64_t) {
  throw InternalError(refusal_of_attention());
}

}  // namespace memwall::cuda

namespace memwall::launchers {

void attention(const KernelCall&) {
  throw InternalError(cuda::refusal_of_attention());
}
void attention_grad(const KernelCall&) {
  throw InternalError(cuda::refusal_of_attention());
}

}  // namespace memwall::launchers
