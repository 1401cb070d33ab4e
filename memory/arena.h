// One arena a rank and memory space: an anonymous mapping of exactly the planned size, whose pages
// become resident when first written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace memwall {

class Arena {
 public:
  // Maps `bytes` rounded up to whole pages of 4096, huge pages off, so that residency is
  // meaningful. Throws Error where the kernel refuses.
  explicit Arena(int64_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Makes no page resident; what was written is lost.
  void discard();
  // Pages of the mapping that are resident, in bytes, as the kernel reports them.
  int64_t resident_bytes() const;

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Anonymous resident memory of this process in bytes (RssAnon), from the kernel.
int64_t resident_anonymous_bytes();
// Of memory that is shared with other processes.
int64_t resident_shared_bytes();

// Memory that this host can still give without swapping, in bytes (MemAvailable).
int64_t available_memory_bytes();

}  // namespace memwall
