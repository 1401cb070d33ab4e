#include "memory/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/math.h"

namespace memwall {
namespace {

constexpr int64_t kPage = 4096;

// The line "KEY  N kB" of a file of the kernel's, in bytes.
int64_t kilobytes_of(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  throw Error(file + " has no line " + key);
}

}  // namespace

Arena::Arena(int64_t bytes) : bytes_(round_up(bytes, kPage)) {
  if (bytes_ == 0) return;
  void* address = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    throw Error("the arena of " + std::to_string(bytes_) +
                    " bytes cannot be mapped: " + std::strerror(errno),
                "", "less memory, or a larger limit (ulimit -v)");
  }
  data_ = static_cast<std::byte*>(address);
  // Huge pages would make more resident than was written. A kernel without them refuses the advice.
  if (madvise(address, static_cast<size_t>(bytes_), MADV_NOHUGEPAGE) != 0 && errno != EINVAL) {
    const std::string reason = std::strerror(errno);
    munmap(address, static_cast<size_t>(bytes_));
    throw Error("huge pages cannot be turned off for the arena: " + reason);
  }
}

Arena::~Arena() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

void Arena::discard() {
  if (data_ != nullptr) madvise(data_, static_cast<size_t>(bytes_), MADV_DONTNEED);
}

int64_t Arena::resident_bytes() const {
  if (data_ == nullptr) return 0;
  std::vector<unsigned char> pages(static_cast<size_t>(bytes_ / kPage));
  if (mincore(data_, static_cast<size_t>(bytes_), pages.data()) != 0) {
    throw Error(std::string("mincore: ") + std::strerror(errno));
  }
  int64_t resident = 0;
  for (unsigned char page : pages) resident += page & 1;
  return resident * kPage;
}

int64_t resident_anonymous_bytes() {
  return kilobytes_of("/proc/self/status", "RssAnon:");
}

int64_t resident_shared_bytes() {
  return kilobytes_of("/proc/self/status", "RssShmem:");
}

int64_t available_memory_bytes() {
  return kilobytes_of("/proc/meminfo", "MemAvailable:");
}

}  // namespace memwall
