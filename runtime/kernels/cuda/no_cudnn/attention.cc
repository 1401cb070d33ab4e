// Of a build without cuDNN's headers: attention cannot be one op. The twin of cudnn/attention.cc.
#include "runtime/kernels/cuda/attention_library.h"
#include "runtime/kernels/launchers/launchers.h"

#include "runtime/base/error.h"

namespace memwall::cuda {

class AttentionLibrary {};

std::shared_ptr<AttentionLibrary> make_attention_library() {
  return nullptr;
}

}  // namespace memwall::cuda

namespace memwall::launchers {
namespace {

[[noreturn]] void refuse() {
  throw InputError("this build has no cuDNN", "run.fused_attention",
                   "build with cuDNN's headers and its C++ front end, or set it to false");
}

}  // namespace

void attention(const KernelCall&) {
  refuse();
}
void attention_grad(const KernelCall&) {
  refuse();
}

}  // namespace memwall::launchers
