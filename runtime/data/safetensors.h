// The safetensors format (github.com/huggingface/safetensors): the length of the header as u64, a
// JSON header {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}},
// then the tensors, little-endian, row-major, without gaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/shape.h"
#include "runtime/data/atomic_file.h"
#include "runtime/data/mapped_file.h"
#include "runtime/data/weight_source.h"

namespace memwall {

// The format's own list: integers may stand in a file, though only floating types can be read.
enum class SafetensorsType : uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kI32,
  kU32,
  kI64,
  kU64,
  kF16,
  kBF16,
  kF32,
  kF64
};

constexpr bool is_floating(SafetensorsType type) {
  return type >= SafetensorsType::kF16;
}

struct SafetensorsTensor {
  SafetensorsType type = SafetensorsType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;  // in the mapped file; not necessarily aligned
};

class SafetensorsFile : public WeightSource {
 public:
  // The header is checked against the whole file before anything is read. InputError: truncated,
  // malformed, overlapping tensors, gaps, unknown types; with the file and the tensor.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, SafetensorsTensor, std::less<>>& tensors() const { return tensors_; }
  const SafetensorsTensor& tensor(std::string_view name) const;

  bool has(std::string_view name) const override { return tensors_.contains(name); }
  Shape shape(std::string_view name) const override { return tensor(name).shape; }
  void read(std::string_view name, int64_t first, std::span<float> out) const override;
  void read(std::string_view name, int64_t first, std::span<double> out) const override;

 private:
  template <class T>
  void read_as(std::string_view name, int64_t first, std::span<T> out) const;

  MappedFile file_;
  std::map<std::string, SafetensorsTensor, std::less<>> tensors_;
};

struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::kF32;  // kF32 or kF64
  Shape shape;
};

// Equal tensors give equal bytes: wider types first, so that every element is aligned, then by
// name, as the format's own library orders them. The file's full size is reserved at once, and
// without `finish` nothing is left of it.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, std::vector<SafetensorsSpec> specs);

  // The next elements of tensor `name`; tensors may be filled in any order, and in turns.
  void append(std::string_view name, std::span<const float> values);
  void append(std::string_view name, std::span<const double> values);
  void finish();  // every tensor is complete

 private:
  struct Tensor {
    DType dtype;
    int64_t elements;
    int64_t offset;        // in the file
    int64_t appended = 0;  // elements
  };
  template <class T>
  void append_as(std::string_view name, std::span<const T> values);

  AtomicFile file_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace memwall
