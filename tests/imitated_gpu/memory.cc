#include "tests/imitated_gpu/memory.h"

#include <sys/mman.h>

#include <cstring>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

constexpr size_t kPage = 4096;

uintptr_t address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

}  // namespace

void* Memory::allocate(Place place, int device, size_t bytes) {
  const size_t total = settings().device_bytes;
  const bool on_device = place == Place::kDevice;
  if (bytes > size_t{1} << 48) return nullptr;
  const size_t mapped = (bytes + kPage - 1) / kPage * kPage;
  if (on_device && kContextBytes + allocated(device) + mapped > total) return nullptr;
  void* pointer = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pointer == MAP_FAILED) return nullptr;
  std::memset(pointer, 0xFF, mapped);
  allocations_[address(pointer)] = {bytes, mapped, place, device};
  if (on_device && settings().protect && open_ == 0) mprotect(pointer, mapped, PROT_NONE);
  return pointer;
}

bool Memory::register_host(void* pointer, size_t bytes) {
  const uintptr_t first = address(pointer), last = first + bytes;
  auto after = allocations_.lower_bound(first);
  if (after != allocations_.end() && after->first < last) return false;
  if (after != allocations_.begin()) {
    const auto& [start, before] = *std::prev(after);
    if (start + before.bytes > first) return false;
  }
  allocations_[first] = {bytes, 0, Place::kRegistered, 0};
  return true;
}

bool Memory::release(void* pointer, Place place) {
  const auto found = allocations_.find(address(pointer));
  if (found == allocations_.end() || found->second.place != place) return false;
  if (place != Place::kRegistered) munmap(pointer, found->second.mapped);
  allocations_.erase(found);
  return true;
}

std::map<uintptr_t, Allocation>::const_iterator Memory::at(const void* pointer) const {
  auto after = allocations_.upper_bound(address(pointer));
  if (after == allocations_.begin()) return allocations_.end();
  const auto found = std::prev(after);
  return address(pointer) - found->first < found->second.bytes ? found : allocations_.end();
}

const Allocation* Memory::find(const void* pointer) const {
  const auto found = at(pointer);
  return found == allocations_.end() ? nullptr : &found->second;
}

const void* Memory::start_of(const void* pointer) const {
  const auto found = at(pointer);
  return found == allocations_.end() ? nullptr : reinterpret_cast<const void*>(found->first);
}

bool Memory::holds(const void* pointer, size_t bytes, Place place) const {
  const auto found = at(pointer);
  if (found == allocations_.end() || found->second.place != place) return false;
  return bytes <= found->second.bytes - (address(pointer) - found->first);
}

bool Memory::on_device(const void* pointer, size_t bytes, int device) const {
  return holds(pointer, bytes, Place::kDevice) && find(pointer)->device == device;
}

size_t Memory::allocated(int device) const {
  size_t bytes = 0;
  for (const auto& [start, allocation] : allocations_) {
    if (allocation.place == Place::kDevice && allocation.device == device) {
      bytes += allocation.mapped;
    }
  }
  return bytes;
}

void Memory::open() {
  if (open_++ == 0) protect_all(true);
}
void Memory::close() {
  if (--open_ == 0) protect_all(false);
}

void Memory::protect_all(bool accessible) const {
  if (!settings().protect) return;
  for (const auto& [start, allocation] : allocations_) {
    if (allocation.place != Place::kDevice) continue;
    mprotect(reinterpret_cast<void*>(start), allocation.mapped,
             accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

}  // namespace memwall::imitated
