// Weights out of a checkpoint's files, and weights into the slots of a plan.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "runtime/base/half.h"
#include "runtime/kernels/segments.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/checkpoint_files.h"
#include "runtime/train/elements.h"

namespace memwall {
namespace {

class CheckpointWeights final : public WeightSource {
 public:
  explicit CheckpointWeights(const std::string& folder)
      : folder_(folder), manifest_(read_manifest(folder)), layout_(manifest_) {
    for (int64_t rank = 0; rank < manifest_.ranks(); ++rank) {
      files_.push_back(std::make_unique<RankFile>(folder, manifest_, rank));
    }
    for (int unit = 0; unit < manifest_.units_size(); ++unit) {
      for (const auto& tensor : manifest_.units(unit).tensors()) {
        Place place{static_cast<size_t>(unit), tensor.offset(), {}};
        for (int64_t dim : tensor.shape()) place.shape.append(dim);
        places_.emplace(tensor.name(), place);
      }
    }
  }

  bool has(std::string_view name) const override { return places_.contains(name); }
  Shape shape(std::string_view name) const override { return place(name).shape; }
  void read(std::string_view name, int64_t first, std::span<float> out) const override {
    read_as(name, first, out);
  }
  void read(std::string_view name, int64_t first, std::span<double> out) const override {
    read_as(name, first, out);
  }

 private:
  struct Place {
    size_t unit = 0;
    int64_t offset = 0;  // elements from the start of the unit
    Shape shape;
  };

  const Place& place(std::string_view name) const {
    const auto found = places_.find(name);
    if (found == places_.end()) throw InputError(fmt::format("no tensor '{}'", name), folder_);
    return found->second;
  }

  template <class T>
  void read_as(std::string_view name, int64_t first, std::span<T> out) const {
    const Place& from = place(name);
    const auto count = static_cast<int64_t>(out.size());
    check(first >= 0 && first <= from.shape.elements() - count, "elements outside the tensor",
          std::string(name));
    if (dtype_of(manifest_) == DType::kF64) {
      copy_shards<double>(from.unit, from.offset + first, out);
    } else {
      copy_shards<float>(from.unit, from.offset + first, out);
    }
  }

  // Elements [begin, begin + out.size()) of a unit, each from the file whose shard it lies in.
  template <class Stored, class T>
  void copy_shards(size_t unit, int64_t begin, std::span<T> out) const {
    const size_t index = layout_.index(unit, kParameterSection);
    const int64_t shard = layout_.bytes(index) / static_cast<int64_t>(sizeof(Stored));
    while (!out.empty()) {
      const int64_t rank = begin / shard, within = begin % shard;
      const int64_t count = std::min(static_cast<int64_t>(out.size()), shard - within);
      const auto bytes = files_[static_cast<size_t>(rank)]->section(index);
      const auto* stored = reinterpret_cast<const Stored*>(bytes.data()) + within;
      std::transform(stored, stored + count, out.begin(),
                     [](Stored value) { return static_cast<T>(value); });
      begin += count;
      out = out.subspan(static_cast<size_t>(count));
    }
  }

  std::string folder_;
  Manifest manifest_;
  FileLayout layout_;
  std::vector<std::unique_ptr<RankFile>> files_;
  std::map<std::string, Place, std::less<>> places_;
};

template <class T>
void fill_slot(const WeightSource& source, const Unit& unit, int64_t begin, std::span<T> slot) {
  const int64_t end = begin + static_cast<int64_t>(slot.size());
  each_run(unit, begin, end, [&](int64_t from, int64_t to, const Segment* segment) {
    const auto run =
        slot.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from));
    if (segment == nullptr) {
      std::fill(run.begin(), run.end(), T{0});
    } else {
      source.read(segment->name, from - segment->offset, run);
    }
  });
}

// A slot of a 16-bit type S: rounded from FP32, as the update rounds masters.
template <class S>
void fill_narrow_slot(const WeightSource& source, const Unit& unit, int64_t begin,
                      std::span<S> slot) {
  std::vector<float> exact(slot.size());
  fill_slot(source, unit, begin, std::span<float>(exact));
  std::transform(exact.begin(), exact.end(), slot.begin(), [](float value) { return S(value); });
}

void check_shapes(const WeightSource& source, const Plan& plan) {
  for (const Unit& unit : plan.units) {
    for (const Segment& segment : unit.segments) {
      const Shape shape = source.shape(segment.name);
      if (shape == segment.shape) continue;
      throw InputError(fmt::format("tensor '{}' is {}, the model's is {}", segment.name,
                                   shape.text(), segment.shape.text()));
    }
  }
}

}  // namespace

std::unique_ptr<WeightSource> open_checkpoint_weights(const std::string& folder) {
  return std::make_unique<CheckpointWeights>(folder);
}

void load_weights(const WeightSource& source, Executor& executor) {
  const Plan& plan = executor.plan();
  check_shapes(source, plan);
  for (const Slot& slot : plan.slots) {
    if (slot.kind != SlotKind::kParameter && slot.kind != SlotKind::kMaster) continue;
    const Unit& unit = plan.units[static_cast<size_t>(slot.unit)];
    const Tensor tensor = executor.slot(slot);
    const int64_t begin = slot.sharded ? executor.comm().rank() * tensor.elements() : 0;
    switch (slot.dtype) {
      case DType::kF32: fill_slot(source, unit, begin, elements_of<float>(tensor)); break;
      case DType::kF64: fill_slot(source, unit, begin, elements_of<double>(tensor)); break;
      case DType::kF16: fill_narrow_slot(source, unit, begin, elements_of<Half>(tensor)); break;
      case DType::kBF16:
        fill_narrow_slot(source, unit, begin, elements_of<BFloat16>(tensor));
        break;
      default: throw InternalError("weights of another dtype", unit.name);
    }
    executor.send(tensor);
  }
  executor.forget_copies();
}

}  // namespace memwall
