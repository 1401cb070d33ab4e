// Which steps a device captures together, when, and what it takes for the same again.
#include "runtime/exec/program_segments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/error.h"
#include "tests/comm/late_device.h"

namespace memwall::test {
namespace {

// Notes what is asked of it.
class NotingGraphs final : public DeviceGraphs {
 public:
  void begin_capture() override { calls.emplace_back("capture"); }
  Graph end_capture() override {
    if (fails) throw Error("no room");
    return next++;
  }
  void abandon_capture() override { calls.emplace_back("abandon"); }
  void begin_launch(Graph graph) override { calls.push_back("launch " + std::to_string(graph)); }
  bool launching() const override { return false; }
  bool end_launch() override { return true; }
  void forget(Graph graph) override { calls.push_back("forget " + std::to_string(graph)); }
  void forget_all() override {}
  int64_t bytes() const override { return 0; }

  std::vector<std::string> calls;
  Graph next = 0;
  bool fails = false;
};

class DeviceWithGraphs : public LateDevice {
 public:
  DeviceGraphs* graphs() override { return &notes; }
  NotingGraphs notes;
};

using Shape = std::vector<std::pair<size_t, size_t>>;  // first and end of captured segments

class Segments : public testing::Test {
 protected:
  Segments() { plan.programs.resize(1); }

  void add(const std::string& name, Stream stream = Stream::kCompute,
           std::vector<int32_t> waits = {}) {
    Step step;
    step.name = name;
    step.stream = stream;
    step.waits = std::move(waits);
    program().steps.push_back(step);
  }
  void add_many(int count) {
    for (int i = 0; i < count; ++i) add("s" + std::to_string(program().steps.size()));
  }
  Program& program() { return plan.programs[0]; }

  Shape captured(bool holds_transfers) {
    DeviceWithGraphs device;
    const ProgramSegments segments(plan, device, holds_transfers);
    Shape out;
    size_t at = 0;
    for (const ProgramSegment& segment : segments.of(program())) {
      EXPECT_EQ(segment.first, at);
      at = segment.end;
      EXPECT_EQ(segment.ends_program, holds_transfers && at == program().steps.size());
      if (segment.is_captured) out.emplace_back(segment.first, segment.end);
    }
    EXPECT_EQ(at, program().steps.size());
    return out;
  }

  Plan plan;
};

TEST_F(Segments, LieBetweenTransfersAndWaitsOfTheHost) {
  add_many(4);
  add("gather", Stream::kCommunication);
  add_many(5);
  add("waits", Stream::kCompute, {4});
  add_many(2);  // three kernels are not worth it
  add("scatter", Stream::kCommunication);
  add_many(4);
  EXPECT_EQ(captured(false), (Shape{{0, 4}, {5, 10}, {14, 18}}));
  EXPECT_EQ(captured(true), (Shape{{0, 18}}));
}

TEST_F(Segments, IterationsOfABodyCount) {
  add("chunks");
  program().steps[0].op = Op::kChunked;
  program().steps[0].body = 0;
  program().bodies.push_back({2, {Step{}}});
  EXPECT_EQ(captured(false), Shape{});
  program().bodies[0].count = 4;
  EXPECT_EQ(captured(false), (Shape{{0, 1}}));
}

TEST_F(Segments, KnowWhetherTheMicroStepCounts) {
  const auto counts = [&] {
    DeviceWithGraphs device;
    return ProgramSegments(plan, device, false).of(program())[0].micro_step_counts;
  };
  add_many(4);
  EXPECT_FALSE(counts());
  for (const auto& [accumulate, expected] :
       {std::pair{Accumulate::kAlways, false}, std::pair{Accumulate::kUnlessFirstOfPeriod, false},
        std::pair{Accumulate::kUnlessFirstMicroStep, true},
        std::pair{Accumulate::kUnlessFirstOfBoth, true}}) {
    program().steps[1].accumulate = accumulate;
    EXPECT_EQ(counts(), expected);
  }
  program().steps[1].accumulate = Accumulate::kNever;
  program().steps[2].op = Op::kChunked;
  program().steps[2].body = 0;
  program().bodies.push_back({2, {Step{}, Step{}}});
  EXPECT_FALSE(counts());
  program().bodies[0].steps[1].accumulate = Accumulate::kUnlessFirstOfBoth;
  EXPECT_TRUE(counts());
}

TEST_F(Segments, AreCapturedSecondAndKnownByWhatDiffers) {
  add_many(4);
  program().steps[0].accumulate = Accumulate::kUnlessFirstMicroStep;
  DeviceWithGraphs device;
  std::vector<std::string>& calls = device.notes.calls;
  {
    ProgramSegments segments(plan, device, true);
    const ProgramSegment& segment = segments.of(program())[0];
    EXPECT_EQ(segment.name, "s0 ... s3");
    std::vector<Way> ways;
    const auto run = [&](int64_t micro_step, const void* observer) {
      segments.run(program(), segment, micro_step, observer, [&](Way way) { ways.push_back(way); });
    };
    const int first = 0, second = 0;  // observers
    for (int i = 0; i < 3; ++i) run(0, &first);
    EXPECT_EQ(ways, (std::vector<Way>{Way::kOrdinary, Way::kCaptured, Way::kReplayed}));
    ways.clear();
    for (int64_t micro_step = 1; micro_step < 4; ++micro_step) run(micro_step, &first);
    EXPECT_EQ(ways, (std::vector<Way>{Way::kOrdinary, Way::kCaptured, Way::kReplayed}));
    ways.clear();
    run(0, &second);
    run(0, &first);
    EXPECT_EQ(ways, (std::vector<Way>{Way::kOrdinary, Way::kReplayed}));
    EXPECT_EQ(calls,
              (std::vector<std::string>{"capture", "launch 0", "capture", "launch 1", "launch 0"}));
    calls.clear();
  }
  std::sort(calls.begin(), calls.end());
  EXPECT_EQ(calls, (std::vector<std::string>{"forget 0", "forget 1"}));
}

TEST_F(Segments, WhatCannotBeCapturedIsSaid) {
  add_many(4);
  DeviceWithGraphs device;
  device.notes.fails = true;
  ProgramSegments segments(plan, device, true);
  const auto run = [&] {
    segments.run(program(), segments.of(program())[0], 0, nullptr, [](Way) {});
  };
  run();
  try {
    run();
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "while 's0 ... s3' was captured: no room (run.cuda_graphs: false queues steps one "
                 "by one)");
  }
  EXPECT_EQ(device.notes.calls, (std::vector<std::string>{"capture", "abandon"}));
}

}  // namespace
}  // namespace memwall::test
