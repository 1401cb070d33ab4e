// A plan's training step on a machine: when each step starts and ends, stream by stream. All ranks
// run the same steps on equal devices, so one rank's timeline is everyone's. That ranks differ is
// added at the end of a training step: the slowest of N is expected to take skew_seconds *
// expected_maximum(N) longer than the mean (skew.h).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/cost/collective_cost.h"
#include "runtime/cost/machine.h"
#include "runtime/cost/op_cost.h"
#include "runtime/plan/plan.h"

namespace memwall {

struct StepSpan {
  double start = 0.0, end = 0.0;  // seconds from the program's start
};

// Seconds. A program's, or those of a whole training step.
struct StepSeconds {
  double full_overlap = 0.0;  // transfers progress by themselves: what waits does so as planned
  double no_overlap = 0.0;    // compute + communication: one after the other
  double compute = 0.0;       // of the compute stream's steps: the sum of the next three
  double launch = 0.0, flops = 0.0, dram = 0.0;  // by what bounds each step; the host's to launch
  double communication = 0.0;                    // of the transfers: the sum of the next three
  double intra = 0.0, inter = 0.0, latency = 0.0;
  double skew = 0.0;  // of a training step, in both of the first two: waiting for the slowest rank

  // What of communication compute does not hide: max(0, full_overlap - skew - compute).
  double exposed_communication() const;
};

struct LinkBytes {  // sent by a rank, the mean over those of a node
  int64_t intra = 0, inter = 0;
};

struct ProgramTimeline {
  std::string program;
  int64_t runs = 0;             // in a training step
  std::vector<StepSpan> spans;  // of one run, with full overlap, for each of the program's steps
  StepSeconds seconds;          // of one run
};

struct Simulation {
  StepSeconds seconds;
  LinkBytes link_bytes;
  std::array<double, kOpCount> by_op{};    // seconds by kind of step; bodies are entered
  std::vector<ProgramTimeline> timelines;  // in the order of their first run
};

// A compute step as the cost model sees it; `launches`: of a step of a body its iterations, else 1.
OpWork work_of(const Step& step, int64_t launches);

// One training step, each transfer by its own algorithm; `curvature`: one that measures it. A
// program that runs several times is walked once. InputError where the machine cannot run the
// plan's precision or hold its ranks.
Simulation simulate(const Plan& plan, const Machine& machine, bool curvature);
// Of a step that measures curvature, where there are such: the steps of plan.totals.
Simulation simulate(const Plan& plan, const Machine& machine);

}  // namespace memwall
