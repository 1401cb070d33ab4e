// The whole backward pass, chunked bodies and tied weights included, against central differences
// of the loss in FP64.
#include <gtest/gtest.h>

#include "comm/self/self_communicator.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

struct Case {
  const char* name;
  double dropout;
  int64_t micro_steps;
  int64_t time;  // 512 makes attention and the head run several chunks
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

class Gradient : public testing::TestWithParam<Case> {};

double loss_of(TinyRun& run) {
  run.accumulate(0);
  return run.executor().slot(SlotKind::kLossSum).as<double>()[0] / run.global_tokens();
}

// d loss / d element, fourth-order stencil.
double difference(TinyRun& run, const Tensor& parameters, int64_t i) {
  const double h = 1e-3, at = element(parameters, i);
  const auto loss = [&](double offset) {
    set_element(parameters, i, at + offset);
    return loss_of(run);
  };
  const double slope = (8.0 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12.0 * h);
  set_element(parameters, i, at);
  return slope;
}

TEST_P(Gradient, EqualsFiniteDifferences) {
  const Case& c = GetParam();
  GptSpec spec = tiny_spec(DType::kF64);
  spec.time = c.time;
  spec.context = c.time + 4;
  spec.dropout = c.dropout;
  CompileSettings settings;
  settings.micro_steps = c.micro_steps;
  SelfCommunicator comm;
  TinyRun run(spec, settings, comm);
  // Away from the initialisation's symmetries, so that no gradient is small by accident.
  std::mt19937_64 random(3);
  std::normal_distribution<double> noise(0.0, 0.1);
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor p = run.executor().slot(SlotKind::kParameter, static_cast<int64_t>(u));
    for (int64_t i = 0; i < p.elements(); ++i) set_element(p, i, element(p, i) + noise(random));
  }
  loss_of(run);
  std::vector<std::vector<double>> gradients;
  double norm = 0.0;
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor g = run.executor().slot(SlotKind::kGradient, static_cast<int64_t>(u));
    gradients.emplace_back(g.as<double>(), g.as<double>() + g.elements());
    for (double value : gradients.back()) norm += value * value;
  }
  norm = std::sqrt(norm);
  const int checked = c.time > 256 ? 1 : 6;
  for (size_t u = 0; u < run.plan().units.size(); ++u) {
    const Tensor p = run.executor().slot(SlotKind::kParameter, static_cast<int64_t>(u));
    for (const Segment& s : run.plan().units[u].segments) {
      double tensor_norm = 0.0;
      for (int64_t i = 0; i < s.count; ++i) {
        const double value = gradients[u][static_cast<size_t>(s.offset + i)];
        tensor_norm += value * value;
      }
      tensor_norm = std::max(std::sqrt(tensor_norm), 1e-3 * norm);
      for (int k = 0; k < checked; ++k) {
        const int64_t i =
            s.offset + static_cast<int64_t>(random() % static_cast<uint64_t>(s.count));
        const double expected = difference(run, p, i);
        EXPECT_NEAR(gradients[u][static_cast<size_t>(i)], expected, 1e-8 * tensor_norm)
            << s.name << " element " << i - s.offset;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Gradient,
                         testing::Values(Case{"plain", 0.0, 1, 16}, Case{"dropout", 0.2, 1, 16},
                                         Case{"accumulated", 0.0, 3, 16},
                                         Case{"chunks", 0.1, 1, 512}),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace memwall::test
