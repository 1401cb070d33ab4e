#include "tests/kernels/op_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "runtime/base/error.h"
#include "runtime/base/half.h"
#include "runtime/base/rng.h"
#include "tests/kernels/op_device.h"

namespace memwall::test {
namespace {

// Elements before and behind a tensor; of any type a multiple of 256 bytes.
constexpr int64_t kGuard = 128;
constexpr std::byte kSentinel{0xA5};

DType type_of(Kind kind, DType dtype) {
  switch (kind) {
    case Kind::kValue: return dtype;
    case Kind::kStatistic: return accumulator_of(dtype);
    case Kind::kF64: return DType::kF64;
    case Kind::kI32: return DType::kI32;
    case Kind::kI64: return DType::kI64;
  }
  return dtype;
}

// 16-bit types are converted from and to float alone.
template <class T>
using Exact = std::conditional_t<sizeof(T) == 2, float, T>;

template <class T>
void write_as(const Values& values, std::byte* to) {
  for (size_t i = 0; i < values.size(); ++i) {
    const T value{static_cast<Exact<T>>(values[i])};
    std::memcpy(to + i * sizeof(T), &value, sizeof(T));
  }
}

template <class T>
Values read_as(const std::byte* from, size_t count) {
  Values out(count);
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + i * sizeof(T), sizeof(T));
    out[i] = static_cast<double>(static_cast<Exact<T>>(value));
  }
  return out;
}

void write(DType dtype, const Values& values, std::byte* to) {
  switch (dtype) {
    case DType::kF16: return write_as<Half>(values, to);
    case DType::kBF16: return write_as<BFloat16>(values, to);
    case DType::kF64: return write_as<double>(values, to);
    case DType::kI32: return write_as<int32_t>(values, to);
    case DType::kI64: return write_as<int64_t>(values, to);
    default: return write_as<float>(values, to);
  }
}

Values read(DType dtype, const std::byte* from, size_t count) {
  switch (dtype) {
    case DType::kF16: return read_as<Half>(from, count);
    case DType::kBF16: return read_as<BFloat16>(from, count);
    case DType::kF64: return read_as<double>(from, count);
    case DType::kI32: return read_as<int32_t>(from, count);
    case DType::kI64: return read_as<int64_t>(from, count);
    default: return read_as<float>(from, count);
  }
}

// A tensor between guards, at an offset from an aligned address.
class Guarded {
 public:
  Guarded(const Data& data, DType dtype, int64_t offset)
      : dtype_(type_of(data.kind, dtype)), shape_(data.shape) {
    const int64_t size = size_of(dtype_), count = shape_.elements();
    EXPECT_EQ(count, static_cast<int64_t>(data.values.size()));
    storage_.resize(static_cast<size_t>((count + 2 * kGuard + 64) * size + 64), kSentinel);
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    aligned_ = (64 - address % 64) % 64;
    start_ = aligned_ + static_cast<size_t>((kGuard + offset) * size);
    bytes_ = static_cast<size_t>(count * size);
    write(dtype_, data.values, storage_.data() + start_);
    before_ = contents();
  }
  Tensor tensor() { return {storage_.data() + start_, dtype_, shape_}; }
  // With its guards, from the aligned address on.
  std::span<std::byte> memory() { return std::span(storage_).subspan(aligned_); }
  std::vector<std::byte> contents() const {
    const auto begin = storage_.begin() + static_cast<std::ptrdiff_t>(start_);
    return {begin, begin + static_cast<std::ptrdiff_t>(bytes_)};
  }
  bool unchanged() const {
    return std::equal(before_.begin(), before_.end(),
                      storage_.begin() + static_cast<std::ptrdiff_t>(start_));
  }
  bool guards_intact() const {
    const auto intact = [](std::byte b) { return b == kSentinel; };
    const auto begin = storage_.begin() + static_cast<std::ptrdiff_t>(start_);
    return std::all_of(storage_.begin(), begin, intact) &&
           std::all_of(begin + static_cast<std::ptrdiff_t>(bytes_), storage_.end(), intact);
  }

 private:
  DType dtype_;
  Shape shape_;
  std::vector<std::byte> storage_, before_;
  size_t aligned_ = 0, start_ = 0, bytes_ = 0;
};

std::string where(const OpCase& c, DType dtype) {
  return std::string(op_name(c.op)) + (c.dual ? " dual " : " ") + c.name + " " +
         std::string(name_of(dtype));
}

// What a value is after a tensor of `type` has held it.
Values rounded(DType type, const Values& values) {
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(size_of(type)));
  write(type, values, bytes.data());
  return read(type, bytes.data(), values.size());
}

// How far rounding once to `type` may move `x`.
double rounding(DType type, double x) {
  if (type == DType::kF16) return std::max(0x1p-11 * std::abs(x), 0x1p-25);
  return type == DType::kBF16 ? 0x1p-8 * std::abs(x) : 0.0;
}

void expect_near_reference(const OpCase& c, DType dtype,
                           const std::vector<std::vector<std::byte>>& results) {
  std::vector<Values> in;
  for (const Data& data : c.inputs) {
    in.push_back(rounded(type_of(data.kind, dtype), data.values));
  }
  std::vector<Values> expected = c.reference(in);
  const size_t first = c.dual ? c.outputs.size() / 2 : 0;
  expected.insert(expected.begin(), first, Values{});
  ASSERT_EQ(expected.size(), c.outputs.size());
  const double tolerance = dtype == DType::kF64 ? c.tolerance_f64 : c.tolerance_f32;
  for (size_t o = first; o < expected.size(); ++o) {
    const Data& data = c.outputs[o];
    const DType type = type_of(data.kind, dtype);
    ASSERT_EQ(expected[o].size(), data.values.size()) << where(c, dtype) << " output " << o;
    const Values got = read(type, results[o].data(), data.values.size());
    const Values before = rounded(type, data.values);
    int failures = 0;
    for (size_t i = 0; i < got.size() && failures < 5; ++i) {
      const bool untouched = std::isnan(expected[o][i]);
      double want = untouched ? before[i] : expected[o][i];
      if (!untouched && c.accumulate && o == first) want += before[i];
      const double size = std::max(1.0, std::abs(want));
      const double inner = on_gpu() ? c.inner_roundings * rounding(type, size) : 0.0;
      const double allowed = untouched ? 0.0 : tolerance * size + rounding(type, want) + inner;
      if (std::abs(got[i] - want) <= allowed || (std::isnan(got[i]) && std::isnan(want))) continue;
      ADD_FAILURE() << where(c, dtype) << " output " << o << " element " << i << ": " << got[i]
                    << ", expected " << want;
      ++failures;
    }
  }
}

// The inputs of a dual case that are no tangents: of integers there are none.
size_t plain_inputs(const OpCase& dual) {
  const auto integers = std::count_if(dual.inputs.begin(), dual.inputs.end(),
                                      [](const Data& d) { return !has_tangent(d); });
  return (dual.inputs.size() + static_cast<size_t>(integers)) / 2;
}

// What may lie in one place at once.
std::vector<Aliases> alias_sets(const OpCase& c) {
  std::vector<Aliases> sets;
  for (const auto& pair : c.in_place) sets.push_back({pair});
  if (!c.dual) return sets;
  for (const auto& [o, i] : c.in_place) {
    const auto before = std::count_if(
        c.inputs.begin(), c.inputs.begin() + static_cast<std::ptrdiff_t>(i), has_tangent);
    const std::pair<size_t, size_t> tangents{o + c.outputs.size() / 2,
                                             plain_inputs(c) + static_cast<size_t>(before)};
    for (const auto& pair : c.in_place) sets.push_back({pair, tangents});
    sets.push_back({tangents});
  }
  return sets;
}

// Imitated GPUs are slow: there every alignment of the smallest accesses, and the largest offset.
std::vector<int64_t> offsets() {
  std::vector<int64_t> all;
  for (int64_t offset = 0; offset < 64; ++offset) {
    if (!on_imitated_gpu() || offset <= 8 || offset == 63) all.push_back(offset);
  }
  return all;
}

// On a GPU: that the case is one that it refuses by design, and does refuse.
bool is_refused(const OpCase& c, DType dtype) {
  if (!on_gpu()) return false;
  std::vector<Tensor> inputs, outputs;
  for (const Data& d : c.inputs) inputs.push_back({nullptr, type_of(d.kind, dtype), d.shape});
  for (const Data& d : c.outputs) outputs.push_back({nullptr, type_of(d.kind, dtype), d.shape});
  const KernelCall call{
      .attributes = c.attributes, .inputs = inputs, .outputs = outputs, .workspace = {}};
  const std::string why = refusal_of(c.op, call);
  if (why.empty()) return false;
  EXPECT_THROW(run(c, dtype, 0, 1, {}), InternalError) << where(c, dtype);
  count_refusal(why);
  return true;
}

// Ops that a library computes on a GPU.
bool is_library_op(Op op) {
  return is_product(op) || op == Op::kAttention || op == Op::kAttentionGrad;
}

// run; nothing where a library's operands are not aligned to 16 bytes, which plans do align, and
// the GPU refuses it.
std::optional<std::vector<std::vector<std::byte>>> run_at(const OpCase& c, DType dtype,
                                                          int64_t offset, int threads,
                                                          const Aliases& aliases) {
  const auto is_aligned = [&](const Data& d) {
    return offset * size_of(type_of(d.kind, dtype)) % 16 == 0;
  };
  const bool aligned = std::all_of(c.inputs.begin(), c.inputs.end(), is_aligned) &&
                       std::all_of(c.outputs.begin(), c.outputs.end(), is_aligned);
  if (!on_gpu() || !is_library_op(c.op) || aligned) return run(c, dtype, offset, threads, aliases);
  try {
    return run(c, dtype, offset, threads, aliases);
  } catch (const InternalError&) {
    count_refusal("operands of libraries that are less aligned than their strides");
    return std::nullopt;
  }
}

void expect_bits_of_plain_call(const OpCase& c, DType dtype,
                               const std::vector<std::vector<std::byte>>& results) {
  const auto plain = run(plain_case(c), dtype, 0, 1, {});
  for (size_t o = 0; o < plain.size(); ++o) {
    EXPECT_EQ(results[o], plain[o]) << where(c, dtype) << " has other values than the plain call";
  }
}

}  // namespace

OpCase plain_case(const OpCase& dual) {
  OpCase c = dual;
  c.dual = false;
  c.inputs.resize(plain_inputs(dual));
  c.outputs.resize(dual.outputs.size() / 2);
  c.reference = nullptr;
  return c;
}

std::vector<std::vector<std::byte>> run(const OpCase& c, DType dtype, int64_t offset, int threads,
                                        const Aliases& aliases) {
  std::vector<Guarded> in, out;
  for (const Data& data : c.inputs) in.emplace_back(data, dtype, offset);
  for (const Data& data : c.outputs) out.emplace_back(data, dtype, offset);
  std::vector<Tensor> inputs, outputs;
  std::vector<std::span<std::byte>> buffers;
  for (Guarded& g : in) inputs.push_back(g.tensor()), buffers.push_back(g.memory());
  for (Guarded& g : out) outputs.push_back(g.tensor()), buffers.push_back(g.memory());
  std::vector<bool> overwritten(in.size(), false);
  for (const auto& [o, i] : aliases) {
    outputs[o].data = inputs[i].data;
    overwritten[i] = true;
  }
  std::vector<std::byte> workspace(static_cast<size_t>(c.workspace_bytes));
  const KernelCall call{.attributes = c.attributes,
                        .inputs = inputs,
                        .outputs = outputs,
                        .accumulate = c.accumulate,
                        .iteration = c.iteration,
                        .rank = c.rank,
                        .ranks = c.ranks,
                        .unit = c.unit,
                        .workspace = workspace,
                        .threads = threads,
                        .dual = c.dual};
  if (on_gpu()) {
    run_on_gpu(c.op, call, buffers);
  } else {
    kernel_of(c.op)(call);
  }
  std::vector<std::vector<std::byte>> results;
  for (size_t o = 0; o < out.size(); ++o) {
    results.push_back(out[o].contents());
    for (const auto& [output, i] : aliases) {
      if (output == o) results.back() = in[i].contents();
    }
    EXPECT_TRUE(out[o].guards_intact()) << where(c, dtype) << " wrote around output " << o;
  }
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(in[i].guards_intact()) << where(c, dtype) << " wrote around input " << i;
    EXPECT_TRUE(overwritten[i] || in[i].unchanged()) << where(c, dtype) << " changed input " << i;
  }
  return results;
}

void expect_correct(const OpCase& c) {
  if (c.also_wide) {
    OpCase wide = c;
    wide.also_wide = false;
    wide.name += " to f32";
    wide.outputs[0].kind = Kind::kStatistic;
    if (c.dual) wide.outputs[c.outputs.size() / 2].kind = Kind::kStatistic;
    wide.dtypes = {DType::kF16, DType::kBF16};
    wide.in_place.clear();
    expect_correct(wide);
  }
  const Aliases always = c.always_in_place ? c.in_place : Aliases{};
  for (DType dtype : c.dtypes) {
    if (is_refused(c, dtype)) continue;
    const auto first = run(c, dtype, 0, 1, always);
    expect_near_reference(c, dtype, first);
    if (c.dual) expect_bits_of_plain_call(c, dtype, first);
    for (int64_t offset : offsets()) {
      const int threads = 1 + static_cast<int>(offset % 3);
      if (const auto results = run_at(c, dtype, offset, threads, always)) {
        EXPECT_EQ(first, *results) << where(c, dtype) << " differs at offset " << offset << " on "
                                   << threads << " threads";
      }
      if (testing::Test::HasFailure()) return;
    }
    if (c.always_in_place) continue;
    for (const Aliases& aliases : alias_sets(c)) {
      EXPECT_EQ(first, run(c, dtype, 3, 2, aliases))
          << where(c, dtype) << " differs where output " << aliases[0].first << " lies on input "
          << aliases[0].second << (aliases.size() > 1 ? ", and tangents on one another" : "");
    }
  }
}

Values noise(int64_t count, uint32_t stream, double scale) {
  Values out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = scale * (2.0 * to_unit_interval(random_bits(9, stream, i)) - 0.9);
  }
  return out;
}

Values whole_numbers(int64_t count, uint32_t stream, int64_t limit) {
  Values out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<double>(random_bits(9, stream, i) % static_cast<uint64_t>(limit));
  }
  return out;
}

}  // namespace memwall::test
