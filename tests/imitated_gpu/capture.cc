#include "tests/imitated_gpu/capture.h"

namespace memwall::imitated {

bool all_joined(const Graph& graph) {
  const int count = static_cast<int>(graph.items.size());
  std::vector<int> record(graph.markers, -1);  // item that sets the marker
  for (int i = 0; i < count; ++i) {
    const GraphItem& item = graph.items[i];
    if (item.work == nullptr && !item.waits) record[item.marker] = i;
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
    const bool counts = item.work != nullptr || item.waits;
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
    if (item.work != nullptr) {
      scheduler.enqueue_work(lane, item.work);
    } else if (item.waits) {
      scheduler.enqueue_wait(lane, markers[item.marker]);
    } else {
      scheduler.enqueue_record(lane, markers[item.marker]);
    }
  }
}

}  // namespace memwall::imitated
