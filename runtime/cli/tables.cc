#include "runtime/cli/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace memwall {
namespace {

// `amount` in units each `factor` times the one before: the first in which it is below `limit`.
template <size_t N>
std::pair<double, std::string_view> scaled(double amount, double factor, double limit,
                                           const std::array<std::string_view, N>& units) {
  size_t unit = 0;
  for (; unit + 1 < N && std::abs(amount) >= limit; ++unit) amount /= factor;
  return {amount, units[unit]};
}

}  // namespace

std::string bytes_text(int64_t bytes) {
  constexpr std::array<std::string_view, 6> units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  const auto [amount, unit] = scaled(static_cast<double>(bytes), 1024.0, 1024.0, units);
  return unit == units[0] ? fmt::format("{} {}", bytes, unit)
                          : fmt::format("{:.1f} {}", amount, unit);
}

std::string count_text(int64_t count) {
  std::string text = std::to_string(count);
  const size_t first = count < 0 ? 1 : 0;
  for (size_t i = text.size(); i > first + 3;) text.insert(i -= 3, ",");
  return text;
}

std::string amount_text(double amount) {
  constexpr std::array<std::string_view, 7> units = {"", " k", " M", " G", " T", " P", " E"};
  const auto [scaled_amount, unit] = scaled(amount, 1000.0, 999.5, units);
  return fmt::format("{:.3g}{}", scaled_amount, unit);
}

std::string TextTable::text(Align align) const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      if (c > 0) line += "  ";
      const bool left = c == 0 || align == Align::kLeft;
      line += left ? fmt::format("{:<{}}", row[c], widths[c])
                   : fmt::format("{:>{}}", row[c], widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

}  // namespace memwall
