// cuDNN, and the attention graphs that it has been asked for. Opened where a plan first needs it.
#pragma once

#include <memory>

namespace memwall::cuda {

class AttentionLibrary;  // cudnn/attention.cc; no_cudnn/attention.cc
std::shared_ptr<AttentionLibrary> make_attention_library();

}  // namespace memwall::cuda
