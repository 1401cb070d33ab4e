// What a model family gives the compiler: its parameters and its graphs.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "runtime/base/unit.h"
#include "runtime/graph/graph.h"

namespace memwall {

// How a model reads its parameters and its input.
struct ModelInputs {
  // Where parameters lie in the buffers: the model's units, as the compiler asked for them.
  std::span<const Unit> units;
  // The whole flat buffer of a unit, called where execution first needs it.
  std::function<ValueId(const Scope&, int64_t unit)> unit_buffer;
  ValueId tokens = kNoValue;        // i32 (batch, time)
  ValueId targets = kNoValue;       // i32 (batch, time)
  ValueId sample_index = kNoValue;  // i64 (batch); read by dropout only
  bool training = false;            // dropout applies
};

class Model {
 public:
  virtual ~Model() = default;

  // Flat buffers padded for `ranks` equal shards. Tensors start, and shards end, at multiples of
  // `alignment` elements.
  virtual std::vector<Unit> units(int64_t ranks, int64_t alignment = kUnitAlignment) const = 0;
  virtual DType dtype() const = 0;
  virtual int64_t batch() const = 0;  // sequences a rank and micro-step
  virtual int64_t time() const = 0;   // tokens a sequence
  virtual int64_t vocabulary() const = 0;
  virtual bool has_dropout() const = 0;

  // f64[parts]: the loss summed over the rows of each of `parts` equal groups of sequences (1 or
  // batch).
  virtual ValueId loss_sum(Graph& graph, const ModelInputs& inputs, int64_t parts) const = 0;
  // (vocabulary): logits of the successor of row `position` (i32[1]).
  virtual ValueId next_token_logits(Graph& graph, const ModelInputs& inputs,
                                    ValueId position) const = 0;
  // Model FLOPs of `tokens` tokens, forward and backward.
  virtual int64_t flops(int64_t tokens) const = 0;
};

}  // namespace memwall
