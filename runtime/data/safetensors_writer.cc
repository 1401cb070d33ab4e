#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/data/safetensors.h"

namespace memwall {
namespace {

std::string type_name(DType dtype) {
  check(dtype == DType::kF32 || dtype == DType::kF64, "safetensors are written as F32 or F64");
  return dtype == DType::kF32 ? "F32" : "F64";
}

nlohmann::ordered_json header_entry(const SafetensorsSpec& spec, int64_t begin) {
  auto shape = nlohmann::ordered_json::array();
  for (int i = 0; i < spec.shape.rank(); ++i) shape.push_back(spec.shape[i]);
  const int64_t end = begin + spec.shape.elements() * size_of(spec.dtype);
  return {{"dtype", type_name(spec.dtype)}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<SafetensorsSpec> specs)
    : file_(path) {
  std::sort(specs.begin(), specs.end(), [](const SafetensorsSpec& a, const SafetensorsSpec& b) {
    return std::make_tuple(-size_of(a.dtype), std::string_view(a.name)) <
           std::make_tuple(-size_of(b.dtype), std::string_view(b.name));
  });
  nlohmann::ordered_json header;
  header["__metadata__"]["format"] = "pt";
  int64_t data_bytes = 0;
  for (const SafetensorsSpec& spec : specs) {
    const auto [entry, inserted] = tensors_.emplace(
        spec.name, Tensor{spec.dtype, spec.shape.elements(), /*offset=*/data_bytes});
    check(inserted && spec.name != "__metadata__", "tensor names are unique", spec.name);
    header[spec.name] = header_entry(spec, data_bytes);
    data_bytes += spec.shape.elements() * size_of(spec.dtype);
  }
  std::string text = header.dump();
  text.resize(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()), 8)), ' ');
  const uint64_t length = text.size();
  const auto data_start = static_cast<int64_t>(sizeof(length) + length);
  for (auto& [name, tensor] : tensors_) tensor.offset += data_start;
  file_.reserve(data_start + data_bytes);
  file_.write(0, std::as_bytes(std::span(&length, 1)));
  file_.write(sizeof(length), std::as_bytes(std::span(text)));
}

template <class T>
void SafetensorsWriter::append_as(std::string_view name, std::span<const T> values) {
  const auto found = tensors_.find(name);
  check(found != tensors_.end(), "a tensor that was not declared", std::string(name));
  Tensor& tensor = found->second;
  const auto count = static_cast<int64_t>(values.size());
  check(count <= tensor.elements - tensor.appended, "more elements than declared",
        std::string(name));
  const int64_t at = tensor.offset + tensor.appended * size_of(tensor.dtype);
  const auto write_converted = [&]<class Stored>(Stored) {
    const std::vector<Stored> converted(values.begin(), values.end());
    file_.write(at, std::as_bytes(std::span(converted)));
  };
  if (size_of(tensor.dtype) == sizeof(T)) {
    file_.write(at, std::as_bytes(values));
  } else if (tensor.dtype == DType::kF32) {
    write_converted(float{});
  } else {
    write_converted(double{});
  }
  tensor.appended += count;
}

void SafetensorsWriter::append(std::string_view name, std::span<const float> values) {
  append_as(name, values);
}
void SafetensorsWriter::append(std::string_view name, std::span<const double> values) {
  append_as(name, values);
}

void SafetensorsWriter::finish() {
  for (const auto& [name, tensor] : tensors_) {
    check(tensor.appended == tensor.elements, "a tensor is incomplete", name);
  }
  file_.commit();
}

}  // namespace memwall
