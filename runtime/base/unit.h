// A sharding unit: the parameters that are gathered and scattered together, as one flat buffer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/base/shape.h"

namespace memwall {

enum class InitKind : uint8_t { kConstant, kNormal };

// One parameter tensor inside a unit's flat buffer.
struct Segment {
  std::string name;    // Hugging Face GPT-2 name, e.g. "h.3.attn.c_attn.weight"
  Shape shape;         // Hugging Face layout, row-major
  int64_t offset = 0;  // elements from the start of the unit; a multiple of the alignment
  int64_t count = 0;   // elements, shape.elements()
  bool decay = false;  // weight decay applies (matrices only)
  InitKind init = InitKind::kConstant;
  double init_value = 0.0;  // the constant, or the standard deviation
  uint32_t index = 0;       // number of the tensor in the model: the stream of its random draws
};

// Elements [0, padded) of the flat buffer; rank r of N owns [r, r+1) * padded / N. What no segment
// covers is padding: it is zero in parameters, gradients and optimizer state.
struct Unit {
  std::string name;        // "embedding", "block3", "head"
  int64_t parameters = 0;  // elements without padding
  int64_t padded = 0;      // a multiple of ranks * alignment
  std::vector<Segment> segments;

  int64_t shard(int64_t ranks) const { return padded / ranks; }
  // The tensor of that name.
  const Segment& segment(std::string_view tensor) const {
    for (const Segment& s : segments) {
      if (s.name == tensor) return s;
    }
    throw InternalError("the unit has no tensor " + std::string(tensor), name);
  }
};

// Tensors start, and shards end, at multiples of this many elements, or of its least common
// multiple with the averaging block where curvature is averaged over blocks of elements.
constexpr int64_t kUnitAlignment = 64;

// The averaging block that stands for whole rows of a matrix.
constexpr int64_t kWholeRows = -1;

}  // namespace memwall
