#include "tests/imitated_gpu/settings.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace memwall::imitated {
namespace {

[[noreturn]] void refuse(const char* name, const char* value, const char* allowed) {
  complain("%s=%s: allowed is %s", name, value, allowed);
  std::_Exit(2);
}

template <class Number>
void read_number(const char* name, Number& number, double least, const char* allowed) {
  const char* text = std::getenv(name);
  if (text == nullptr) return;
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0' || value < least) refuse(name, text, allowed);
  number = static_cast<Number>(value);
}

void read_order(Settings& settings) {
  const char* name = "MEMWALL_IMITATED_GPU_ORDER";
  const char* text = std::getenv(name);
  if (text == nullptr) return;
  const std::string_view order(text);
  constexpr std::string_view kRandom = "RANDOM:";
  if (order == "LATE") {
    settings.order = Order::kLate;
  } else if (order == "EARLY") {
    settings.order = Order::kEarly;
  } else if (order.starts_with(kRandom)) {
    const char* digits = text + kRandom.size();
    char* end = nullptr;
    settings.order = Order::kRandom;
    settings.seed = std::strtoull(digits, &end, 10);
    if (end == digits || *end != '\0') refuse(name, text, "LATE, EARLY or RANDOM:<seed>");
  } else {
    refuse(name, text, "LATE, EARLY or RANDOM:<seed>");
  }
}

void read_fault(const char* name, std::string& function, uint64_t& call) {
  const char* text = std::getenv(name);
  if (text == nullptr) return;
  const std::string fault(text);
  const size_t colon = fault.rfind(':');
  char* end = nullptr;
  if (colon != std::string::npos) call = std::strtoull(text + colon + 1, &end, 10);
  if (end == nullptr || *end != '\0' || call == 0) refuse(name, text, "<function>:<call, from 1>");
  function = fault.substr(0, colon);
}

void read_start(Settings& settings) {
  const char* name = "MEMWALL_IMITATED_NCCL_START";
  const char* text = std::getenv(name);
  if (text == nullptr) return;
  settings.never_starts = std::string_view(text) == "NEVER";
  if (!settings.never_starts) refuse(name, text, "NEVER");
}

Settings read_settings() {
  Settings settings;
  read_number("MEMWALL_IMITATED_GPUS", settings.devices, 0, "a count of at least 0");
  read_number("MEMWALL_IMITATED_GPU_FIRST", settings.first, 0, "a number of at least 0");
  read_number("MEMWALL_IMITATED_GPU_BYTES", settings.device_bytes, 1, "bytes, at least 1");
  read_number("MEMWALL_IMITATED_GPU_ARCH", settings.arch, 10, "major * 10 + minor, as 90");
  read_number("MEMWALL_IMITATED_GPU_CODE", settings.code, 10, "major * 10 + minor, as 90");
  read_number("MEMWALL_IMITATED_GPU_PATIENCE", settings.patience_seconds, 0.0, "seconds");
  read_number("MEMWALL_IMITATED_CUDNN_EXTRA_WORKSPACE", settings.cudnn_extra_workspace, 0,
              "bytes, at least 0");
  int protect = 0;
  read_number("MEMWALL_IMITATED_GPU_PROTECT", protect, 0, "0 or 1");
  settings.protect = protect != 0;
  int halves = 0;
  read_number("MEMWALL_IMITATED_GEMM_HALVES", halves, 0, "0 or 1");
  settings.products_in_halves = halves != 0;
  read_number("MEMWALL_IMITATED_GEMM_WORKSPACE", settings.more_workspace, 0, "bytes");
  read_number("MEMWALL_IMITATED_NCCL_GRANULARITY", settings.granularity, 4096, "bytes");
  int windows = 1;
  read_number("MEMWALL_IMITATED_NCCL_WINDOWS", windows, 0, "0 or 1");
  settings.windows = windows != 0;
  read_order(settings);
  read_fault("MEMWALL_IMITATED_GPU_FAULT", settings.fault_name, settings.fault_call);
  read_fault("MEMWALL_IMITATED_GPU_REFUSE", settings.refused_name, settings.refused_call);
  read_fault("MEMWALL_IMITATED_GPU_HOLD", settings.held_name, settings.held_call);
  read_start(settings);
  if (const char* file = std::getenv("MEMWALL_IMITATED_GPU_COUNTS")) settings.counts_file = file;
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* rank = std::getenv(name)) {
      settings.rank = std::atoi(rank);
      break;
    }
  }
  return settings;
}

}  // namespace

Settings& settings() {
  static Settings& the_settings = *new Settings(read_settings());
  return the_settings;
}

void complain(const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "imitated GPU: %s\n", text);
}

}  // namespace memwall::imitated
