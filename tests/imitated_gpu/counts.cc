#include "tests/imitated_gpu/counts.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

Counts& the_counts();

std::string json(const std::map<std::string, uint64_t>& numbers) {
  std::string text = "{";
  for (const auto& [name, number] : numbers) {
    if (text.size() > 1) text += ", ";
    text += '"';
    for (const char c : name) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    text += "\": " + std::to_string(number);
  }
  return text + "}";
}

// One write, so that the lines of several ranks do not mix.
void append_to_file() {
  const Counts& counts = the_counts();
  const std::string line =
      "{\"rank\": " + std::to_string(settings().rank) + ", \"calls\": " + json(counts.calls) +
      ", \"kernels\": " + json(counts.kernels) + ", \"bytes\": " + json(counts.bytes) +
      ", \"captured\": " + json(counts.captured) + ", \"replayed\": " + json(counts.replayed) +
      "}\n";
  const char* file = settings().counts_file.c_str();
  const int descriptor = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0 || write(descriptor, line.data(), line.size()) < 0) {
    complain("MEMWALL_IMITATED_GPU_COUNTS=%s: cannot be written", file);
  }
  if (descriptor >= 0) close(descriptor);
}

Counts& the_counts() {
  static Counts& counts = *[] {
    if (!settings().counts_file.empty()) std::atexit(append_to_file);
    return new Counts;
  }();
  return counts;
}

}  // namespace

Counts counts() {
  return the_counts();
}
void reset_counts() {
  the_counts() = {};
}

bool count_call(const char* name) {
  const uint64_t number = ++the_counts().calls[name];
  return settings().fault_name == name && number == settings().fault_call;
}
void count_kernel(const std::string& name) {
  ++the_counts().kernels[name];
}
void count_bytes(const std::string& name, uint64_t bytes) {
  the_counts().bytes[name] += bytes;
}
void count_capture(const std::string& name) {
  ++the_counts().captured[name];
}
void count_replay(const std::string& name, uint64_t bytes) {
  ++the_counts().replayed[name];
  if (bytes > 0) count_bytes(name, bytes);
}

}  // namespace memwall::imitated
