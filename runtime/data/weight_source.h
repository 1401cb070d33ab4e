// Where weights come from: a safetensors file, a Hugging Face folder, a checkpoint.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/base/shape.h"

namespace memwall {

// Any tensor and any range of it can be read, in any order, by any number of threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual bool has(std::string_view name) const = 0;
  // InputError, from here on, where there is no tensor of that name.
  virtual Shape shape(std::string_view name) const = 0;
  // Elements [first, first + out.size()) of the row-major tensor, converted: exactly where `out` is
  // the wider type, else rounded to nearest even.
  virtual void read(std::string_view name, int64_t first, std::span<float> out) const = 0;
  virtual void read(std::string_view name, int64_t first, std::span<double> out) const = 0;
};

}  // namespace memwall
