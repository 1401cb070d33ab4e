// The files of a checkpoint folder. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "configs/checkpoint.pb.h"
#include "runtime/base/dtype.h"
#include "runtime/base/shape.h"
#include "runtime/data/mapped_file.h"

namespace memwall {

using checkpoint::Manifest;

constexpr int32_t kCheckpointFormat = 2;

std::string step_folder_name(int64_t step);  // "step-00000100"
std::string rank_file_name(int64_t rank);    // "rank-00000.bin"
std::string manifest_path(const std::string& folder);

// Steps of the folders below `checkpoints`, newest first, valid or not.
std::vector<int64_t> checkpoint_steps(const std::string& checkpoints);

// Durable on return. The file ends with its own checksum.
void write_manifest(const std::string& folder, const Manifest& manifest);
// InputError where it is missing, damaged, or of a format that this version does not know.
Manifest read_manifest(const std::string& folder);
DType dtype_of(const Manifest& manifest);
// InputError where a rank's file is missing or has another size.
void check_file_sizes(const std::string& folder, const Manifest& manifest);

// What a file holds of a unit: section 0 is its parameters, section m its m-th moments.
constexpr size_t kParameterSection = 0;
size_t sections_of_unit(const Manifest& manifest);

// Where what lies in each rank's file.
class FileLayout {
 public:
  explicit FileLayout(const Manifest& manifest);

  size_t sections() const { return unit_sections_ * shard_bytes_.size(); }
  size_t index(size_t unit, size_t section) const { return unit_sections_ * unit + section; }
  int64_t bytes(size_t index) const { return shard_bytes_[index / unit_sections_]; }
  int64_t offset(size_t index) const {
    return offsets_[index / unit_sections_] +
           static_cast<int64_t>(index % unit_sections_) * bytes(index);
  }
  int64_t table_offset() const { return offsets_.back(); }
  int64_t table_bytes() const { return static_cast<int64_t>(sections() * sizeof(uint64_t)); }
  int64_t file_bytes() const { return table_offset() + table_bytes(); }

 private:
  size_t unit_sections_;
  std::vector<int64_t> shard_bytes_;  // of each unit
  std::vector<int64_t> offsets_;      // of each unit's first section, then of the table
};

// One rank's file, mapped. Safe to read from several threads.
class RankFile {
 public:
  // InputError where size or table of checksums are not the manifest's.
  RankFile(const std::string& folder, const Manifest& manifest, int64_t rank);

  // InputError, naming the unit, where the bytes do not match their checksum; compared once.
  std::span<const std::byte> section(size_t index) const;

 private:
  const Manifest& manifest_;
  FileLayout layout_;
  MappedFile map_;
  std::unique_ptr<std::once_flag[]> compared_;
};

}  // namespace memwall
