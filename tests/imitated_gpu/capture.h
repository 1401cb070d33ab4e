// Captured work. A graph is a list of items on lanes: lane 0 is the stream that began the capture,
// the others those that joined it through events. A launch puts lane 0 on the launching stream and
// the others on streams of the graph's own, with markers of its own.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/imitated_gpu/scheduler.h"

namespace memwall::imitated {

// What a call that is captured leaves in the counts each time that its graph is launched.
struct Tally {
  std::vector<std::pair<std::string, uint64_t>> calls;  // and their bytes
  std::shared_ptr<void> holds;  // lives as long as a graph that has the call
};

struct GraphItem {
  int lane = 0;
  Work work;        // null: a record or a wait
  int marker = -1;  // 0 ... Graph::markers - 1
  bool waits = false;
  cudaEvent_t event = nullptr;  // an external record's
  Tally tally;

  bool is_node() const { return work != nullptr || event != nullptr; }
};

struct UserObject;  // cudart_user_object.cc

struct Graph {
  std::vector<GraphItem> items;  // in the order of capture: a wait comes after its record
  int lanes = 1;
  int markers = 0;
  int device = 0;
  std::vector<std::shared_ptr<UserObject>> retained;  // by it and by what is instantiated from it
};

struct Capture {
  Graph graph;
  std::vector<StreamPtr> streams;  // by lane
  bool invalid = false;
  bool relaxed = false;
  bool global = false;     // else it concerns only its thread
  std::thread::id thread;  // that began it
};

// An instantiated graph.
struct LaunchableGraph {
  static constexpr size_t kBytes = size_t{64} << 10, kNodeBytes = 512;  // of its device's memory

  Graph graph;
  const void* source = nullptr;    // the graph that it was made of
  std::vector<StreamPtr> streams;  // of lanes 1 and up
};

size_t bytes_of(const LaunchableGraph& launchable);

// Whether all work of all lanes comes before the end of lane 0.
bool all_joined(const Graph& graph);

void launch(Scheduler& scheduler, const LaunchableGraph& launchable, const StreamPtr& stream);

}  // namespace memwall::imitated
