// Device memory and pinned host memory of the imitated GPUs. Fresh bytes are 0xFF: NaN in every
// floating-point type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace memwall::imitated {

enum class Place {
  kDevice,
  kPinned,      // allocated by the library
  kRegistered,  // pinned afterwards; its memory is the program's
};

struct Allocation {
  size_t bytes = 0;   // as asked for; the address is a multiple of 256, of 4096 on the device
  size_t mapped = 0;  // whole pages
  Place place = Place::kDevice;
  int device = 0;
};

// Callers hold the library's lock.
class Memory {
 public:
  // Bytes that a context and the libraries take on each device.
  static constexpr size_t kContextBytes = size_t{300} << 20;

  void* allocate(Place place, int device, size_t bytes);  // null: no room
  bool register_host(void* pointer, size_t bytes);        // false: overlaps an allocation
  bool release(void* pointer, Place place);               // false: not the start of such a one

  // The allocation in which the byte at `pointer` lies, or null.
  const Allocation* find(const void* pointer) const;
  // Whether bytes [pointer, pointer + bytes) lie in one allocation of the place.
  bool holds(const void* pointer, size_t bytes, Place place) const;
  // Of device memory, on this device.
  bool on_device(const void* pointer, size_t bytes, int device) const;
  size_t allocated(int device) const;
  const void* start_of(const void* pointer) const;  // of the allocation found there

  // While nothing is open and Settings::protect is set, device memory cannot be touched.
  void open();
  void close();

 private:
  std::map<uintptr_t, Allocation>::const_iterator at(const void* pointer) const;
  void protect_all(bool accessible) const;

  std::map<uintptr_t, Allocation> allocations_;  // by first byte
  int open_ = 0;
};

class OpenMemory {
 public:
  explicit OpenMemory(Memory& memory) : memory_(memory) { memory_.open(); }
  ~OpenMemory() { memory_.close(); }
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;

 private:
  Memory& memory_;
};

}  // namespace memwall::imitated
