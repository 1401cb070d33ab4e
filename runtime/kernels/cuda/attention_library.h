// cuDNN, and the attention graphs that it has been asked for. Opened where a plan first needs it.
#pragma once

#include <memory>
#include <string>

#include "runtime/base/dtype.h"
#include "runtime/base/op.h"

namespace memwall::cuda {

struct Context;

class AttentionLibrary;  // cudnn/attention.cc; no_cudnn/attention.cc
std::shared_ptr<AttentionLibrary> make_attention_library();

// The library's version, or why it cannot be used.
struct AttentionVersion {
  std::string version, refusal;
};
AttentionVersion version_of_attention(const Context& context);
// Readies a kAttention or, `backward`, a kAttentionGrad step. Throws an Error where the library
// wants more workspace than is planned.
void prepare_attention(const Context& context, const AttentionAttributes& attributes, DType dtype,
                       bool backward, int64_t workspace_bytes);

}  // namespace memwall::cuda
