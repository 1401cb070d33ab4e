#include "runtime/report/live_json.h"

#include <algorithm>
#include <numeric>

#include "runtime/report/live_bytes.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostPositions = 3000, kMostHolders = 30;

int64_t sum(const ByCategory& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
}

// Of each stretch of list positions, the one with the most bytes.
std::vector<size_t> shown_positions(const LiveBytes& live) {
  const size_t count = live.bytes.size();
  const size_t stretch = std::max<size_t>(1, (count + kMostPositions - 1) / kMostPositions);
  std::vector<size_t> out;
  for (size_t first = 0; first < count; first += stretch) {
    size_t most = first;
    for (size_t i = first; i < std::min(count, first + stretch); ++i) {
      if (sum(live.bytes[i]) > sum(live.bytes[most])) most = i;
    }
    out.push_back(most);
  }
  return out;
}

}  // namespace

Json live_json(const Plan& plan) {
  const LiveBytes live = live_bytes(plan);
  Json out = {{"positions", live.bytes.size()}, {"programs", Json::array()}};
  for (const LiveProgram& p : live.programs) {
    out["programs"].push_back({{"name", p.name},
                               {"first", p.first},
                               {"steps", p.steps},
                               {"backward", p.backward >= 0 ? Json(p.backward) : Json()},
                               {"runs", p.runs},
                               {"peak_bytes", p.peak_bytes},
                               {"planned_peak_bytes", plan.program(p.name).live_bytes_peak}});
  }
  const std::vector<size_t> shown = shown_positions(live);
  out["position"] = shown;
  out["steps"] = Json::array();
  for (size_t i : shown) out["steps"].push_back(live.steps[i]);
  for (size_t c = 0; c < kCategoryCount; ++c) {
    Json column = Json::array();
    for (size_t i : shown) column.push_back(live.bytes[i][c]);
    out["bytes"][std::string(name_of(static_cast<Category>(c)))] = std::move(column);
  }
  out["peak_position"] = live.peak_position;
  out["peak_bytes"] = live.peak_bytes;
  out["peak_step"] = live.steps.empty() ? "" : live.steps[static_cast<size_t>(live.peak_position)];
  out["holders"] = Json::array();
  int64_t others = 0, other_bytes = 0;
  for (const Holder& h : live.holders) {
    if (out["holders"].size() >= kMostHolders) {
      ++others;
      other_bytes += h.bytes;
      continue;
    }
    out["holders"].push_back({{"name", h.name},
                              {"category", name_of(h.category)},
                              {"bytes", h.bytes},
                              {"persistent", h.persistent},
                              {"first", h.first},
                              {"last", h.last}});
  }
  out["other_holders"] = {{"count", others}, {"bytes", other_bytes}};
  return out;
}

}  // namespace memwall
