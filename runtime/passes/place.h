// From a scheduled graph to a program of the plan: storage, offsets, waits.
#pragma once

#include <string>

#include "runtime/cost/collective_choice.h"
#include "runtime/graph/graph.h"
#include "runtime/plan/plan.h"

namespace memwall {

struct PlaceRequest {
  std::string name;  // of the program
  int64_t prefetch_depth = 0;
  std::vector<int32_t> host_slots;
  CollectiveChoice collectives;
};

// Appends to plan.values and returns the program, whose transient offsets count from
// plan.persistent_bytes; plan.slots must be placed. Raises plan.arena_bytes where needed, and
// `lower_bound` to the program's.
Program place(Graph graph, const PlaceRequest& request, Plan& plan, int64_t& lower_bound);

constexpr int64_t kArenaAlignment = 64;  // bytes

}  // namespace memwall
