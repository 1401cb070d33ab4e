// One op against a plain loop in double precision, and against itself in every mode that must not
// change a bit.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "runtime/kernels/kernel.h"

namespace memwall::test {

using Values = std::vector<double>;

// What type a tensor has when the case runs in dtype T.
enum class Kind { kValue, kStatistic, kF64, kI32, kI64 };

struct Data {
  Kind kind = Kind::kValue;
  Shape shape;
  Values values;  // of an output: what lies there before
};

// Whether a dual call has a tangent of it.
inline bool has_tangent(const Data& data) {
  return data.kind != Kind::kI32 && data.kind != Kind::kI64;
}

// Pairs (output, input) in one place.
using Aliases = std::vector<std::pair<size_t, size_t>>;

// Elements of an expected result that the kernel must leave as they were.
inline const double kUntouched = std::numeric_limits<double>::signaling_NaN();

struct OpCase {
  std::string name;
  Op op = Op::kCopy;
  Attributes attributes = NoAttributes{};
  std::vector<Data> inputs, outputs;
  bool accumulate = false;
  int64_t iteration = 0;
  int rank = 0, ranks = 1;
  const Unit* unit = nullptr;
  int64_t workspace_bytes = 0;
  // Pairs (output, input) that may lie in one place, tried one at a time; of a dual call those of
  // the op, tried with every one of those among tangents.
  Aliases in_place;
  // Pairs that always do, all at once.
  bool always_in_place = false;
  // A dual call (kernels/kernel.h): tangents stand behind the inputs and the outputs.
  bool dual = false;
  // The results without the addend, from inputs rounded to their types. Of a dual call the results'
  // tangents alone: its values must have the bits of the plain call.
  std::function<std::vector<Values>(const std::vector<Values>& in)> reference;
  // Of max(1, |expected|). Results in 16 bits may differ by one rounding more than FP32's.
  double tolerance_f32 = 1e-5, tolerance_f64 = 1e-12;
  // On a GPU, of 16-bit types: so many roundings more of max(1, |expected|), of what lies between.
  double inner_roundings = 0.0;
  std::vector<DType> dtypes = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16};
  // The first result may also be FP32 where the values are 16 bits.
  bool also_wide = false;
};

// The bytes of all outputs, in dtype `dtype`. Every tensor lies `offset` elements behind an
// aligned address between guards, which must survive; inputs must too, but for an alias.
std::vector<std::vector<std::byte>> run(const OpCase& c, DType dtype, int64_t offset, int threads,
                                        const Aliases& aliases);

// The same on values alone, of a dual case.
OpCase plain_case(const OpCase& dual);

// Reference, offsets 0 ... 63, 1 ... 3 threads, in place; in all dtypes of the case. On a GPU
// (op_device.h) threads mean nothing.
void expect_correct(const OpCase& c);

// Reproducible values in [-scale, scale), not symmetric around zero.
Values noise(int64_t count, uint32_t stream, double scale = 1.0);
// Whole numbers in [0, limit).
Values whole_numbers(int64_t count, uint32_t stream, int64_t limit);

inline Data input(Shape shape, Values values, Kind kind = Kind::kValue) {
  return {kind, shape, std::move(values)};
}
// An output with noise in it, so that a kernel that adds where it should write is caught.
inline Data output(Shape shape, Kind kind = Kind::kValue) {
  return {kind, shape, noise(shape.elements(), 77, 3.0)};
}

}  // namespace memwall::test
