// A file that appears whole or not at all: written beside its place, synced, then renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace memwall {

// Without `commit` the destructor removes the temporary, and what was at `path` stays as it was.
// A full disk is an Error from `reserve` or `write`.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void reserve(int64_t bytes);  // takes the disk blocks now, so that a full disk shows at once
  void write(int64_t offset, std::span<const std::byte> bytes);
  // Nothing more will be written: syncs and closes the file, which keeps its temporary name. So
  // many files can be made ready, without as many being open, before the first takes its place.
  void seal();
  void commit();  // seals; on return the file survives a power cut in its place

 private:
  [[noreturn]] void fail(const std::string& action, int error) const;

  std::string path_, temporary_;
  int fd_ = -1;
};

void write_file_atomically(const std::string& path, std::string_view contents);

}  // namespace memwall
