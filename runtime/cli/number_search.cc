#include "runtime/cli/number_search.h"

#include <algorithm>
#include <map>

namespace memwall {
namespace {

class Finder {
 public:
  explicit Finder(const NumberSearch& request) : request_(request) {}

  NumberSearchResult run() {
    // From the first number that cannot fit downwards: gaps and chunks cost a few steps at most.
    int64_t number = first_too_large() - 1;
    while (number >= 1 && at(number).planned_bytes > request_.budget_bytes) --number;
    NumberSearchResult out;
    if (number >= 1) out.largest = at(number);
    if (number < request_.most) out.next = at(number + 1);
    return out;
  }

 private:
  const Candidate& at(int64_t number) {
    const auto [entry, fresh] = compiled_.try_emplace(number);
    if (fresh) entry->second = request_.compile(number);
    return entry->second;
  }

  int64_t least(int64_t number) { return request_.least_bytes(at(number)); }

  // The smallest number whose least bytes are over the budget, most + 1 where there is none:
  // bisection whose middle lies on the line through the two largest numbers that may fit, so that
  // it seldom takes more than four guesses, all but the last two of them small.
  int64_t first_too_large() {
    int64_t below = 0, before = 0, above = request_.most + 1;
    for (int64_t turn = 0; above - below > 1; ++turn) {
      const bool bisect = turn % 4 == 3 && above <= request_.most;
      const int64_t number = bisect ? below + (above - below) / 2 : guess(before, below, above);
      if (least(number) > request_.budget_bytes) {
        above = number;
      } else {
        before = below;
        below = number;
      }
    }
    return above;
  }

  // Strictly between `below` and `above`, and not much more than ten times `below`, where a line
  // through two small numbers says little.
  int64_t guess(int64_t before, int64_t below, int64_t above) {
    int64_t number = 2 * below;
    if (before > 0) {
      const double slope =
          static_cast<double>(least(below) - least(before)) / static_cast<double>(below - before);
      const double left = static_cast<double>(request_.budget_bytes - least(below));
      const double steps = slope > 0.0 ? left / slope : static_cast<double>(below);
      number = below + static_cast<int64_t>(std::min(steps, 10.0 * static_cast<double>(below)));
    }
    return std::clamp(number, below + 1, above - 1);
  }

  const NumberSearch& request_;
  std::map<int64_t, Candidate> compiled_;
};

}  // namespace

NumberSearchResult find_largest(const NumberSearch& request) {
  return Finder(request).run();
}

}  // namespace memwall
