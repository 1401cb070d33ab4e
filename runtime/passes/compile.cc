#include "runtime/passes/compile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runtime/base/averaging.h"
#include "runtime/base/target.h"
#include "runtime/graph/rewrite.h"
#include "runtime/passes/evict.h"
#include "runtime/passes/place.h"
#include "runtime/passes/programs.h"
#include "runtime/passes/schedule.h"
#include "runtime/passes/select.h"
#include "runtime/passes/shard.h"
#include "runtime/passes/totals.h"
#include "runtime/plan/verify.h"

namespace memwall {
namespace {

class Compiler {
 public:
  Compiler(const Model& model, const CompileSettings& settings)
      : model_(model), settings_(settings) {}

  Plan run() {
    plan_.ranks = settings_.ranks;
    plan_.micro_steps = settings_.micro_steps;
    plan_.zero_stage = settings_.zero_stage;
    plan_.target = settings_.target;
    plan_.page_bytes = page_bytes_of(backend_of(plan_.target));
    plan_.fabric = settings_.fabric;
    if (const auto* adahessian = std::get_if<AdaHessianSettings>(&settings_.optimizer)) {
      plan_.probes = adahessian->probes;
    }
    plan_.units = model_.units(settings_.ranks, averaging_alignment(averaging_block(settings_)));
    for (const Unit& unit : plan_.units) plan_.parameters += unit.parameters;
    declare_slots(model_, settings_, plan_);
    plan_.arena_bytes = plan_.persistent_bytes;
    const ProgramGraphs graphs(model_, settings_, plan_);
    if (settings_.train) add_training(graphs);
    if (settings_.curvature) add_curvature(graphs);
    if (settings_.evaluate) {
      add("evaluate", graphs.evaluate(), {SlotKind::kTokens, SlotKind::kTargets});
    }
    if (settings_.next_token) {
      add("next_token", graphs.next_token(), {SlotKind::kTokens, SlotKind::kPosition});
    }
    total(plan_, model_, lower_bound_);
    verify_plan(plan_);
    return std::move(plan_);
  }

 private:
  static constexpr std::array kFed = {SlotKind::kTokens, SlotKind::kTargets, SlotKind::kSampleIndex,
                                      SlotKind::kScalars, SlotKind::kVector};

  void add_micro_step(const ProgramGraphs& graphs, std::string_view name, const MicroStep& step) {
    add(std::string(name), graphs.micro_step(step), {kFed.begin(), kFed.end()});
  }

  void add_training(const ProgramGraphs& graphs) {
    const auto* adahessian = std::get_if<AdaHessianSettings>(&settings_.optimizer);
    const bool several = settings_.micro_steps > 1;
    const bool measures_every_step = adahessian != nullptr && adahessian->update_every == 1;
    add("init", graphs.initialise(), {});
    if (!measures_every_step) {
      if (several) add_micro_step(graphs, "micro", {.last = false});
      add_micro_step(graphs, "last_micro", {});
      add("update", graphs.update(false), {});
    }
    if (adahessian != nullptr) add_measuring(graphs, adahessian->probes);
    if (plan_.find_slot(SlotKind::kMaster, 0) != nullptr) add("restore", graphs.restore(), {});
  }

  // The programs of a step that measures curvature: plan.h, training_step.
  void add_measuring(const ProgramGraphs& graphs, int64_t probes) {
    const MicroStep micro{.direction = Direction::kSigns, .last_curvature = probes == 1};
    MicroStep first = micro;
    first.last = first.last_curvature = false;
    if (settings_.micro_steps > 1) add_micro_step(graphs, "micro_hessian", first);
    add_micro_step(graphs, "last_micro_hessian", micro);
    const MicroStep probe{.gradient = false,
                          .direction = Direction::kSigns,
                          .last_curvature = false,
                          .first_probe = false};
    if (probes > 2 || (probes > 1 && settings_.micro_steps > 1)) {
      add_micro_step(graphs, "probe", probe);
    }
    MicroStep last = probe;
    last.last_curvature = true;
    if (probes > 1) add_micro_step(graphs, "last_probe", last);
    add("update_hessian", graphs.update(true), {});
  }

  void add_curvature(const ProgramGraphs& graphs) {
    add_micro_step(graphs, kHessianSigns, {.direction = Direction::kSigns, .training = false});
    add_micro_step(graphs, kHessianVector,
                   {.gradient = false, .direction = Direction::kVector, .training = false});
  }

  // The passes, in order; the graph is verified after each.
  void add(const std::string& name, Graph graph, const std::vector<SlotKind>& fed) {
    const auto verified = [](Graph g) {
      verify_graph(g);
      return g;
    };
    graph = verified(std::move(graph));
    graph = verified(without_dead_code(graph));
    const bool backward = std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
      return node.phase == Phase::kBackward;
    });
    graph = verified(evict(graph, backward ? evicted_by(settings_.checkpointing, graph)
                                           : Evicted(is_gathered_parameter)));
    graph = verified(select(graph, {.target = settings_.target,
                                    .fuses_attention = settings_.fuses_attention,
                                    .epilogues = settings_.epilogues}));
    graph = verified(schedule(graph, settings_.prefetch_depth));
    PlaceRequest request;
    request.name = name;
    request.prefetch_depth = settings_.prefetch_depth;
    request.collectives = settings_.collectives;
    for (SlotKind kind : fed) {
      for (size_t s = 0; s < plan_.slots.size(); ++s) {
        if (plan_.slots[s].kind == kind) request.host_slots.push_back(static_cast<int32_t>(s));
      }
    }
    plan_.programs.push_back(place(std::move(graph), request, plan_, lower_bound_));
  }

  const Model& model_;
  const CompileSettings settings_;
  Plan plan_;
  int64_t lower_bound_ = 0;
};

}  // namespace

Plan compile(const Model& model, const CompileSettings& settings) {
  return Compiler(model, settings).run();
}

void check_budget(const Plan& plan, int64_t budget_bytes) {
  const int64_t needed = planned_bytes(plan);
  if (budget_bytes == 0 || needed <= budget_bytes) return;
  std::vector<size_t> order(kCategoryCount);
  for (size_t c = 0; c < kCategoryCount; ++c) order[c] = c;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return plan.totals.at_peak[a] > plan.totals.at_peak[b]; });
  std::string consumers;
  for (size_t k = 0; k < 4; ++k) {
    consumers +=
        fmt::format("{}{} {:.1f} MiB", k ? ", " : "", name_of(static_cast<Category>(order[k])),
                    static_cast<double>(plan.totals.at_peak[order[k]]) / (1 << 20));
  }
  const int64_t window = window_bytes_per_rank(plan.fabric.window_ranks);
  if (window > 0) {
    consumers += fmt::format(", and the window of shared memory {:.1f} MiB",
                             static_cast<double>(window) / (1 << 20));
  }
  throw BudgetError(
      fmt::format("the plan needs {:.1f} MiB a rank, {:.1f} MiB more than the budget; the largest "
                  "consumers are {}",
                  static_cast<double>(needed) / (1 << 20),
                  static_cast<double>(needed - budget_bytes) / (1 << 20), consumers),
      "memory.budget");
}

}  // namespace memwall
