#include "runtime/config/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <string>

#include "runtime/base/error.h"

namespace memwall {
namespace {

struct Unit {
  std::string_view name;
  double size;
};

constexpr std::array<Unit, 9> kByteUnits = {{{"B", 1.0},
                                             {"KB", 1e3},
                                             {"MB", 1e6},
                                             {"GB", 1e9},
                                             {"TB", 1e12},
                                             {"KiB", 0x1p10},
                                             {"MiB", 0x1p20},
                                             {"GiB", 0x1p30},
                                             {"TiB", 0x1p40}}};
constexpr std::array<Unit, 4> kTimeUnits = {{{"d", 86400.0}, {"h", 3600.0}, {"m", 60.0}, {"s", 1}}};

[[noreturn]] void refuse_size(std::string_view text) {
  throw InputError(fmt::format("\"{}\" is not a size", text), "",
                   "allowed: a number and B, KB, KiB, MB, MiB, GB, GiB, TB or TiB, as \"512MiB\"");
}

[[noreturn]] void refuse_duration(std::string_view text) {
  throw InputError(fmt::format("\"{}\" is not a duration", text), "",
                   "allowed: whole numbers of d, h, m and s in that order, as \"3h50m\"");
}

[[noreturn]] void refuse_range(std::string_view text) {
  throw InputError(fmt::format("\"{}\" names no steps", text), "",
                   "allowed: a step or the first and the last one, as \"10-12\"");
}

}  // namespace

int64_t parse_bytes(std::string_view text) {
  double number = 0.0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc()) refuse_size(text);
  std::string_view suffix(rest, static_cast<size_t>(end - rest));
  if (suffix.starts_with(' ')) suffix.remove_prefix(1);
  for (const Unit& unit : kByteUnits) {
    if (suffix != unit.name) continue;
    const double bytes = number * unit.size;
    if (!(bytes >= 1.0 && bytes < 0x1p63)) refuse_size(text);
    return static_cast<int64_t>(bytes);
  }
  refuse_size(text);
}

double parse_duration_seconds(std::string_view text) {
  double seconds = 0.0;
  size_t next_unit = 0;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at != end) {
    uint32_t number = 0;
    const auto [rest, error] = std::from_chars(at, end, number);
    if (error != std::errc() || rest == end) refuse_duration(text);
    while (next_unit < kTimeUnits.size() && kTimeUnits[next_unit].name[0] != *rest) ++next_unit;
    if (next_unit == kTimeUnits.size()) refuse_duration(text);
    seconds += number * kTimeUnits[next_unit++].size;
    at = rest + 1;
  }
  if (seconds <= 0.0) refuse_duration(text);
  return seconds;
}

StepRange parse_step_range(std::string_view text) {
  StepRange range;
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, range.first);
  if (parsed.ec != std::errc()) refuse_range(text);
  range.last = range.first;
  if (parsed.ptr != end) {
    if (*parsed.ptr != '-') refuse_range(text);
    parsed = std::from_chars(parsed.ptr + 1, end, range.last);
    if (parsed.ec != std::errc() || parsed.ptr != end) refuse_range(text);
  }
  if (range.first < 1 || range.last < range.first) refuse_range(text);
  return range;
}

}  // namespace memwall
