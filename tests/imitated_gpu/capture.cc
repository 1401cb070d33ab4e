#include "tests/imitated_gpu/capture.h"

#include <algorithm>

#include "tests/imitated_gpu/process.h"

namespace memwall::imitated {
namespace {

// The event is as it was before until its turn comes: CUDA does not say what else it is meanwhile.
Work record_of(cudaEvent_t handle) {
  return [handle] {
    const auto found = process().events.find(handle);
    if (found == process().events.end()) return true;
    found->second->marker = std::make_shared<Marker>();
    found->second->marker->done = true;
    found->second->marker->when = Clock::now();
    return true;
  };
}

}  // namespace

size_t bytes_of(const LaunchableGraph& launchable) {
  return LaunchableGraph::kBytes + launchable.graph.items.size() * LaunchableGraph::kNodeBytes;
}

bool all_joined(const Graph& graph) {
  const int count = static_cast<int>(graph.items.size());
  std::vector<int> record(graph.markers, -1);  // item that sets the marker
  for (int i = 0; i < count; ++i) {
    const GraphItem& item = graph.items[i];
    if (!item.is_node() && !item.waits) record[item.marker] = i;
  }
  // covered[lane]: the last item of the lane that the end of lane 0 comes after.
  std::vector<int> covered(graph.lanes, -1);
  covered[0] = count;
  for (int i = count - 1; i >= 0; --i) {
    const GraphItem& item = graph.items[i];
    if (!item.waits || i > covered[item.lane]) continue;
    const int source = record[item.marker];
    int& reached = covered[graph.items[source].lane];
    reached = std::max(reached, source);
  }
  for (int i = 0; i < count; ++i) {
    const GraphItem& item = graph.items[i];
    const bool counts = item.is_node() || item.waits;
    if (counts && i > covered[item.lane]) return false;
  }
  return true;
}

void launch(Scheduler& scheduler, const LaunchableGraph& launchable, const StreamPtr& stream) {
  const Graph& graph = launchable.graph;
  std::vector<MarkerPtr> markers(graph.markers);
  for (MarkerPtr& marker : markers) marker = std::make_shared<Marker>();
  for (const GraphItem& item : graph.items) {
    const StreamPtr& lane = item.lane == 0 ? stream : launchable.streams[item.lane - 1];
    for (const auto& [name, bytes] : item.tally.calls) count_replay(name, bytes);
    if (item.event != nullptr) {
      scheduler.enqueue_work(lane, record_of(item.event));
    } else if (item.work != nullptr) {
      scheduler.enqueue_work(lane, item.work);
    } else if (item.waits) {
      scheduler.enqueue_wait(lane, markers[item.marker]);
    } else {
      scheduler.enqueue_record(lane, markers[item.marker]);
    }
  }
}

}  // namespace memwall::imitated
