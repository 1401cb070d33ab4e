// The GPT-2 family (Radford et al. 2019): pre-LayerNorm blocks, learned positions, biases, tanh
// GELU, tied head. Tensor names and layouts are those of Hugging Face's GPT2LMHeadModel.
#pragma once

#include <string>
#include <vector>

#include "runtime/graph/model.h"

namespace memwall {

struct GptSpec {
  int64_t layers = 0, hidden = 0, heads = 0, context = 0, vocabulary = 0;
  int64_t batch = 1;  // sequences a rank and micro-step
  int64_t time = 0;   // tokens a sequence, at most `context`
  double dropout = 0.0;
  int64_t dropout_seed = 0;
  double layer_norm_epsilon = 1e-5;
  DType dtype = DType::kF32;
  int64_t head_rows = 256;  // at most so many of a chunk of the head
};

// embedding (wte, wpe), one a block, head (final layer norm); offsets are multiples of the
// alignment, `padded` of ranks * alignment. GPT-2's initialisation: N(0, 0.02), projections into
// the residual stream N(0, 0.02 / sqrt(2 layers)), biases 0, scales 1.
std::vector<Unit> gpt2_units(const GptSpec& spec, int64_t ranks,
                             int64_t alignment = kUnitAlignment);

// Rows of attention's and the head's chunks: the largest divisor that is at most this.
constexpr int64_t kChunkRows = 256;
// Of the head's on a GPU: the table's gradient, in FP32, is read and written once a chunk.
constexpr int64_t kDeviceHeadRows = 2048;

class Gpt2 : public Model {
 public:
  explicit Gpt2(GptSpec spec);
  const GptSpec& spec() const { return spec_; }

  std::vector<Unit> units(int64_t ranks, int64_t alignment = kUnitAlignment) const override {
    return gpt2_units(spec_, ranks, alignment);
  }
  DType dtype() const override { return spec_.dtype; }
  int64_t batch() const override { return spec_.batch; }
  int64_t time() const override { return spec_.time; }
  int64_t vocabulary() const override { return spec_.vocabulary; }
  bool has_dropout() const override { return spec_.dropout > 0.0; }
  // The head is a chunked node: no full logits exist.
  ValueId loss_sum(Graph& graph, const ModelInputs& inputs, int64_t parts) const override;
  ValueId next_token_logits(Graph& graph, const ModelInputs& inputs,
                            ValueId position) const override;
  // 6 for each weight of a GEMM and 12 * layers * time * hidden for attention, counted whole.
  int64_t flops(int64_t tokens) const override;

 private:
  // Final hidden states (batch * time, hidden), after the last layer norm.
  ValueId hidden(Graph& graph, const ModelInputs& inputs) const;
  ValueId parameter(const Scope& scope, const ModelInputs& inputs, int64_t unit,
                    const std::string& name) const;
  ValueId embedding(const Scope& scope, const ModelInputs& inputs) const;
  ValueId block(const Scope& scope, ValueId x, int64_t layer, const ModelInputs& inputs) const;
  ValueId attention(const Scope& scope, ValueId qkv, const ModelInputs& inputs, int64_t site) const;
  std::shared_ptr<const Graph> attention_body(int64_t rows, int64_t site, bool drops) const;
  ValueId dropout(const Scope& scope, ValueId x, const ModelInputs& inputs, int64_t site) const;
  ValueId layer_norm(const Scope& scope, ValueId x, ValueId scale, ValueId shift) const;
  bool drops(const ModelInputs& inputs) const { return inputs.training && spec_.dropout > 0.0; }

  GptSpec spec_;
};

}  // namespace memwall
