#include "runtime/data/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "runtime/base/error.h"
#include "runtime/data/half.h"

namespace memwall {
namespace {

constexpr const char* kRemedy = "bring the file back whole, or save the model anew";

using nlohmann::json;
using Type = SafetensorsType;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the format's own library

struct TypeInfo {
  std::string_view name;
  Type type;
  int64_t bytes;
};
constexpr std::array kTypes{
    TypeInfo{"BOOL", Type::kBool, 1}, TypeInfo{"U8", Type::kU8, 1},
    TypeInfo{"I8", Type::kI8, 1},     TypeInfo{"I16", Type::kI16, 2},
    TypeInfo{"U16", Type::kU16, 2},   TypeInfo{"I32", Type::kI32, 4},
    TypeInfo{"U32", Type::kU32, 4},   TypeInfo{"I64", Type::kI64, 8},
    TypeInfo{"U64", Type::kU64, 8},   TypeInfo{"F16", Type::kF16, 2},
    TypeInfo{"BF16", Type::kBF16, 2}, TypeInfo{"F32", Type::kF32, 4},
    TypeInfo{"F64", Type::kF64, 8},
};

std::string_view name_of(Type type) {
  return kTypes[static_cast<size_t>(type)].name;
}

struct Entry {  // one tensor of the header
  std::string name;
  Type type = Type::kF32;
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes from the end of the header
};

// Turns what is wrong with a header into an InputError at this file.
class HeaderReader {
 public:
  HeaderReader(const std::string& path, int64_t data_bytes)
      : path_(path), data_bytes_(data_bytes) {}

  // By ascending position in the file.
  std::vector<Entry> read(std::string_view text) const {
    const json header = parse(text);
    if (!header.is_object()) refuse("the header is no JSON object");
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
      if (name != "__metadata__") entries.push_back(entry(name, value));
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    check_cover(entries);
    return entries;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError("damaged safetensors file: " + what, path_, kRemedy);
  }

  json parse(std::string_view text) const {
    std::set<std::string> names;
    const auto unique = [&](int depth, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::key && depth == 1 &&
          !names.insert(parsed.get<std::string>()).second) {
        refuse(fmt::format("tensor '{}' stands twice in the header", parsed.get<std::string>()));
      }
      return true;
    };
    try {
      return json::parse(text.begin(), text.end(), unique);
    } catch (const json::parse_error& error) {
      refuse(fmt::format("the header is not JSON at byte {}", sizeof(uint64_t) + error.byte));
    }
  }

  Entry entry(const std::string& name, const json& value) const {
    const auto malformed = [&](std::string_view what) {
      refuse(fmt::format("tensor '{}': {}", name, what));
    };
    if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
        !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
        !value["data_offsets"].is_array() || value["data_offsets"].size() != 2) {
      malformed("dtype, shape and data_offsets [begin, end] are due");
    }
    const auto number = [&](const json& n) {
      if (!n.is_number_unsigned() || n.get<uint64_t>() > INT64_MAX) {
        malformed(fmt::format("{} is no size", n.dump()));
      }
      return n.get<int64_t>();
    };
    const auto dtype = value["dtype"].get<std::string>();
    const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const TypeInfo& info) { return info.name == dtype; });
    if (type == kTypes.end()) malformed(fmt::format("unknown dtype '{}'", dtype));

    Entry out;
    out.name = name;
    out.type = type->type;
    if (value["shape"].size() > Shape::kMaxRank) malformed("more than four dimensions");
    int64_t bytes = type->bytes;
    for (const json& dim : value["shape"]) {
      out.shape.append(number(dim));
      if (__builtin_mul_overflow(bytes, number(dim), &bytes)) malformed("its size overflows");
    }
    out.begin = number(value["data_offsets"][0]);
    out.end = number(value["data_offsets"][1]);
    if (out.begin > out.end || out.end - out.begin != bytes) {
      malformed(fmt::format("{} {} takes {} bytes, its offsets are [{}, {})", dtype,
                            out.shape.text(), bytes, out.begin, out.end));
    }
    if (out.end > data_bytes_) {
      malformed(fmt::format("ends at byte {} of the data, the file holds {} (truncated?)", out.end,
                            data_bytes_));
    }
    return out;
  }

  // The tensors cover the data exactly: the format allows no gap and no overlap.
  void check_cover(const std::vector<Entry>& entries) const {
    int64_t covered = 0;
    const Entry* last = nullptr;
    for (const Entry& entry : entries) {
      if (entry.begin < covered) {
        refuse(fmt::format("tensors '{}' and '{}' overlap", last->name, entry.name));
      }
      if (entry.begin > covered) {
        refuse(fmt::format("bytes [{}, {}) of the data belong to no tensor", covered, entry.begin));
      }
      covered = entry.end;
      last = &entry;
    }
    if (covered != data_bytes_) {
      refuse(fmt::format("{} bytes follow the last tensor", data_bytes_ - covered));
    }
  }

  const std::string& path_;
  int64_t data_bytes_;
};

template <class T, class Stored, class Convert>
void convert(std::span<const std::byte> bytes, std::span<T> out, Convert to_number) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<T>(to_number(stored));
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const auto bytes = file_.bytes();
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) {
    throw InputError(fmt::format("damaged safetensors file: {} bytes long", bytes.size()), path,
                     kRemedy);
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - sizeof(header_bytes)) {
    throw InputError(
        fmt::format("no safetensors file, or truncated: a header of {} bytes in a file of {}",
                    header_bytes, bytes.size()),
        path, kRemedy);
  }
  const auto text = bytes.subspan(sizeof(header_bytes), header_bytes);
  const auto data = bytes.subspan(sizeof(header_bytes) + header_bytes);
  const HeaderReader reader(file_.path(), static_cast<int64_t>(data.size()));
  for (const Entry& entry :
       reader.read({reinterpret_cast<const char*>(text.data()), text.size()})) {
    tensors_[entry.name] = {entry.type, entry.shape,
                            data.subspan(static_cast<size_t>(entry.begin),
                                         static_cast<size_t>(entry.end - entry.begin))};
  }
}

const SafetensorsTensor& SafetensorsFile::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    throw InputError(fmt::format("no tensor '{}'", name), path(), kRemedy);
  return found->second;
}

template <class T>
void SafetensorsFile::read_as(std::string_view name, int64_t first, std::span<T> out) const {
  const SafetensorsTensor& from = tensor(name);
  check(first >= 0 && first <= from.shape.elements() - static_cast<int64_t>(out.size()),
        "elements outside the tensor", std::string(name));
  const auto bytes_from = [&](size_t size) {
    return from.bytes.subspan(static_cast<size_t>(first) * size);
  };
  const auto same = [](auto number) { return number; };
  switch (from.type) {
    case Type::kF16: return convert<T, uint16_t>(bytes_from(2), out, f16_to_float);
    case Type::kBF16: return convert<T, uint16_t>(bytes_from(2), out, bf16_to_float);
    case Type::kF32: return convert<T, float>(bytes_from(4), out, same);
    case Type::kF64: return convert<T, double>(bytes_from(8), out, same);
    default:
      throw InputError(
          fmt::format("tensor '{}' is {}: no floating-point type", name, name_of(from.type)),
          path(), "save the model as F16, BF16, F32 or F64");
  }
}

void SafetensorsFile::read(std::string_view name, int64_t first, std::span<float> out) const {
  read_as(name, first, out);
}
void SafetensorsFile::read(std::string_view name, int64_t first, std::span<double> out) const {
  read_as(name, first, out);
}

}  // namespace memwall
