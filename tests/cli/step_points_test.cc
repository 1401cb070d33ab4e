// The parts of a step that are timed, beside a clock around the whole step.
#include "runtime/cli/step_points.h"

#include <gtest/gtest.h>

#include <numeric>

#include "comm/self/self_communicator.h"
#include "runtime/sim/simulate.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

// Large enough that a step computes for longer than the executor looks at its clock.
GptSpec spec() {
  GptSpec out = tiny_spec(DType::kF32);
  out.context = out.time = 512;
  out.hidden = 64;
  return out;
}

CompileSettings settings(int64_t micro_steps) {
  CompileSettings out;
  out.zero_stage = 3;
  out.micro_steps = micro_steps;
  out.optimizer = AdamWSettings{};
  return out;
}

// How often a step has each kind of work, counted from the plan.
std::vector<int64_t> times_of(const Plan& plan, int64_t micro_steps,
                              const std::vector<OpWork>& works) {
  std::vector<int64_t> out(works.size(), 0);
  const auto count = [&](const Step& step, int64_t launches) {
    const OpWork work = work_of(step, launches);
    for (size_t w = 0; w < works.size(); ++w) {
      if (work.op == works[w].op && work.dtype == works[w].dtype && work.flops == works[w].flops &&
          work.dram_bytes == works[w].dram_bytes && launches == works[w].launches) {
        ++out[w];
      }
    }
  };
  for (const ProgramRun& run : training_step(micro_steps, plan.probes, false)) {
    const Program& program = plan.program(run.program);
    for (const Step& step : program.steps) {
      if (step.stream == Stream::kCommunication) continue;
      if (step.op != Op::kChunked) {
        count(step, 1);
        continue;
      }
      const Body& body = program.bodies[static_cast<size_t>(step.body)];
      for (const Step& inner : body.steps) count(inner, body.count);
    }
  }
  return out;
}

TEST(StepPoints, AddUpToTheStep) {
  for (const int64_t micro_steps : {1, 3}) {
    for (const int ranks : {1, 2}) {  // 2: unconnected
      SelfCommunicator comm(0, ranks, Transport::kMpi);
      TinyRun run(spec(), settings(micro_steps), comm);
      StepPoints points(run.plan());
      run.executor().set_observer(&points);
      const std::vector<int64_t> times = times_of(run.plan(), micro_steps, points.work());
      double best = 0.0;  // share of the step: a pause of the process counts in few of them
      for (int step = 0; step < 6; ++step) {
        points.take();
        const auto begin = std::chrono::steady_clock::now();
        run.step(step);
        const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - begin;
        const StepPoints::Step taken = points.take();
        double sum = 0.0;
        for (size_t w = 0; w < times.size(); ++w) {
          EXPECT_EQ(taken.seconds[w] > 0.0, times[w] > 0) << op_name(points.work()[w].op);
          sum += static_cast<double>(times[w]) * taken.seconds[w];
        }
        EXPECT_NEAR(sum, taken.compute_seconds, 1e-9 * sum);
        EXPECT_LE(taken.compute_seconds + taken.transfer_seconds, whole.count());
        best = std::max(best, (taken.compute_seconds + taken.transfer_seconds) / whole.count());
      }
      EXPECT_GT(best, 0.9) << ranks;
      EXPECT_EQ(points.take().compute_seconds, 0.0);
    }
  }
}

// Kinds of work are those of the plan, each once, with the FLOPs that the plan counts.
TEST(StepPoints, KnowEveryWorkOnce) {
  SelfCommunicator comm;
  TinyRun run(spec(), settings(1), comm);
  const StepPoints points(run.plan());
  const std::vector<int64_t> times = times_of(run.plan(), 1, points.work());
  int64_t flops = 0, steps = 0, in_plan = 0, steps_in_plan = 0;
  for (size_t w = 0; w < times.size(); ++w) {
    flops += times[w] * points.work()[w].flops;
    steps += times[w];
  }
  for (const char* name : {"last_micro", "update"}) {
    const Program& program = run.plan().program(name);
    for (const Step& step : program.steps) {
      if (step.stream == Stream::kCommunication) continue;
      in_plan += step.flops;
      steps_in_plan +=
          step.op != Op::kChunked
              ? 1
              : static_cast<int64_t>(program.bodies[static_cast<size_t>(step.body)].steps.size());
    }
  }
  EXPECT_EQ(flops, in_plan);
  EXPECT_EQ(steps, steps_in_plan);
}

}  // namespace
}  // namespace memwall::test
