// What a rank's arena holds at each step of a plan's training step, by category, and who holds it
// where it holds the most. Read from the plan alone: from where its steps' operands lie and when
// steps of the other stream wait for them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace memwall {

// A stretch of the arena that one value after another lives in, each in the place of the one
// before; or all slots of a kind.
struct Holder {
  std::string name;  // of the largest value that it holds
  Category category = Category::kActivations;
  int64_t bytes = 0;
  bool persistent = false;      // slots: alive between programs
  int64_t first = 0, last = 0;  // list positions, as in LiveBytes::bytes
};

struct LiveProgram {
  std::string name;
  int64_t first = 0, steps = 0;  // list positions
  int64_t backward = -1;         // that of its first backward step, or -1
  int64_t runs = 1;              // in a training step
  int64_t peak_bytes = 0;
};

// Each program of the training step once, in the order of their first runs. A list position is a
// step of the plan; bodies of chunked steps are one step, whose scratch they share.
struct LiveBytes {
  std::vector<LiveProgram> programs;
  std::vector<ByCategory> bytes;   // by list position, persistent bytes included
  std::vector<std::string> steps;  // their names, and the operations'
  int64_t peak_position = 0;       // the first with the most bytes
  int64_t peak_bytes = 0;
  std::vector<Holder> holders;  // at the peak, largest first
};

// Of a step that measures curvature, where there are such. The plan must train.
LiveBytes live_bytes(const Plan& plan);

}  // namespace memwall
