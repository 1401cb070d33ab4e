// A plan for people: what every rank will hold, send and compute, and step by step how.
#pragma once

#include <string>

#include "runtime/model/gpt2.h"
#include "runtime/plan/plan.h"
#include "runtime/sim/simulate.h"

namespace memwall {

struct PlanTitle {
  std::string name;  // of the run
  GptSpec model;
  int64_t steps = 0;                  // of the run
  int64_t window_rounding_bytes = 0;  // planned_window_rounding
};

// Model, memory by category, traffic, FLOPs.
std::string plan_summary(const Plan& plan, const PlanTitle& title);

// What a step is predicted to take on a machine.
std::string prediction_summary(const Simulation& step);

// Every program's steps, in order: stream, operation, name, and where in the arena the results lie.
std::string plan_listing(const Plan& plan);

// Model FLOPs of all ranks and steps of a run.
double run_flops(const Plan& plan, int64_t steps);

}  // namespace memwall
