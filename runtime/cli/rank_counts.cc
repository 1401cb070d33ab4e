#include "runtime/cli/rank_counts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "runtime/base/error.h"

namespace memwall {
namespace {

constexpr int64_t kMostRanks = int64_t{1} << 20;

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number out{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, out);
  if (error != std::errc() || rest != end) return std::nullopt;
  return out;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

int64_t rank_count(std::string_view word, const std::string& text) {
  const std::optional<int64_t> count = number<int64_t>(word);
  if (count && *count >= 1 && *count <= kMostRanks) return *count;
  throw InputError("\"" + text + "\" names no rank counts of 1 to 1048576", "--ranks",
                   "as 8..1024 or 8,24,64");
}

}  // namespace

std::vector<int64_t> parse_rank_counts(const std::string& text) {
  std::vector<int64_t> out;
  const size_t dots = text.find("..");
  if (dots == std::string::npos) {
    for (std::string_view word : split(text, ',')) out.push_back(rank_count(word, text));
    for (size_t i = 1; i < out.size(); ++i) {
      if (out[i - 1] >= out[i]) throw InputError("\"" + text + "\" does not ascend", "--ranks");
    }
    return out;
  }
  const std::string_view view = text;
  const int64_t first = rank_count(view.substr(0, dots), text);
  const int64_t last = rank_count(view.substr(dots + 2), text);
  int64_t count = first;
  for (; count <= last; count *= 2) out.push_back(count);
  if (count != 2 * last) {
    throw InputError("\"" + text + "\": the last is not the first doubled some times", "--ranks",
                     "as 8..1024");
  }
  return out;
}

WhatIf parse_what_if(const std::string& text) {
  WhatIf out;
  if (text.empty()) return out;
  std::set<std::string_view> seen;
  for (std::string_view word : split(text, ',')) {
    const size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    double* factor = name == "flops"  ? &out.flops
                     : name == "dram" ? &out.dram
                     : name == "link" ? &out.link
                                      : nullptr;
    const std::optional<double> value =
        equals == std::string_view::npos ? std::nullopt : number<double>(word.substr(equals + 1));
    if (factor == nullptr || !value || !std::isfinite(*value) || *value <= 0.0) {
      throw InputError("\"" + std::string(word) + "\" is no factor of the machine's rates",
                       "--what-if", "allowed: flops, dram and link, each above 0, as link=4");
    }
    if (!seen.insert(name).second) {
      throw InputError("\"" + std::string(name) + "\" is given more than once", "--what-if");
    }
    *factor = *value;
  }
  return out;
}

std::string algorithm_setting(const std::string& text) {
  std::string name = text;
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view known : {"AUTO", "PAIRWISE", "RING", "TWO_LEVEL"}) {
    if (name == known) return "communication.algorithm=" + name;
  }
  throw InputError("\"" + text + "\" is no algorithm", "--algorithm",
                   "allowed: auto, pairwise, ring, two_level");
}

}  // namespace memwall
