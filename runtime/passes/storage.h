// Which values share storage: views, parts inside their concat, results in place of dying inputs,
// sums in place of their addends, gathers around their shard. It assigns each value a buffer and a
// displacement; where the buffers lie is decided afterwards (memory/placement.h).
#pragma once

#include <vector>

#include "runtime/graph/graph.h"

namespace memwall {

struct Location {
  int32_t buffer = -1;
  int64_t offset = 0;       // bytes from the buffer's start
  int64_t rank_stride = 0;  // rank r adds r times this
};

struct Buffer {
  int64_t bytes = 0;
  int32_t external = -1;  // given from outside (a slot; an operand or result of a body), or -1
  int32_t first = -1, last = -1;  // list positions (node indices) in which it is alive
  int32_t merged_into = -1;       // this buffer is part of another one, at `merged_offset`
  int64_t merged_offset = 0;
  std::vector<ValueId> holds;
};

// How a graph output reaches its external buffer.
struct Target {
  int32_t external = -1;
  bool accumulate = false;  // a body's result that adds to what is there
};

struct StorageProblem {
  const Graph& graph;
  // By node: the list position when its reads and writes are over (its own index unless it is a
  // transfer that ends later).
  std::vector<int32_t> complete;
  std::vector<int64_t> external_bytes;
  std::vector<Target> targets;  // by graph output
};

// A copy that has to be made because storage cannot be shared.
struct CopyNeeded {
  enum class What { kAddend, kInput, kOutput } what;
  NodeId node = -1;         // kAddend, kInput: the reader
  int32_t index = 0;        // which addend, input, or graph output
  bool accumulate = false;  // kOutput
};

struct Storage {
  std::vector<Location> locations;  // by value, resolved to unmerged buffers
  std::vector<Buffer> buffers;
  std::vector<char> accumulates;   // by node: adds into its external target
  std::vector<CopyNeeded> copies;  // not empty: insert these and ask again
};

// `slot` of a kState, or index of a kOperand, is the number of its external buffer.
Storage assign_storage(const StorageProblem& problem);

// `graph` with the copies inserted.
Graph with_copies(const Graph& graph, const std::vector<CopyNeeded>& copies);

}  // namespace memwall
