#include "runtime/plan/plan.h"
#include "runtime/base/math.h"
#include "runtime/base/target.h"

#include <algorithm>

#include "runtime/base/hash.h"

namespace memwall {

std::string_view name_of(Category category) {
  constexpr std::array<std::string_view, kCategoryCount> names = {
      "parameters",          "gradients",     "optimizer_state", "activations",
      "gathered_parameters", "communication", "workspace"};
  return names[static_cast<size_t>(category)];
}

std::string_view name_of(SlotKind kind) {
  constexpr std::array<std::string_view, 16> names = {
      "parameter",    "master",   "moment1",     "moment2",  "gradient", "curvature",
      "vector",       "scalars",  "trace_sum",   "loss_sum", "tokens",   "targets",
      "sample_index", "position", "sample_loss", "logits"};
  return names[static_cast<size_t>(kind)];
}

bool Plan::has_program(std::string_view name) const {
  return std::any_of(programs.begin(), programs.end(),
                     [&](const Program& p) { return p.name == name; });
}

const Program& Plan::program(std::string_view name) const {
  for (const Program& p : programs) {
    if (p.name == name) return p;
  }
  throw InternalError("the plan has no program " + std::string(name));
}

const Slot* Plan::find_slot(SlotKind kind, int64_t unit) const {
  for (const Slot& slot : slots) {
    if (slot.kind == kind && slot.unit == unit) return &slot;
  }
  return nullptr;
}

std::vector<ProgramRun> training_step(int64_t micro_steps, int64_t probes, bool curvature) {
  std::vector<ProgramRun> runs;
  for (int64_t a = 0; a < micro_steps; ++a) {
    const bool last = a + 1 == micro_steps;
    if (!curvature) {
      runs.push_back({last ? "last_micro" : "micro", a, 0});
      continue;
    }
    runs.push_back({last ? "last_micro_hessian" : "micro_hessian", a, 0});
    for (int64_t p = 1; p < probes; ++p) {
      runs.push_back({last && p + 1 == probes ? "last_probe" : "probe", a, p});
    }
  }
  runs.push_back({curvature ? "update_hessian" : "update", 0, 0});
  return runs;
}

uint64_t plan_hash(const Plan& plan) {
  return hash_text(dump_plan(plan));
}

namespace {

// Pages [first, last] as a bit set.
class Pages {
 public:
  Pages(int64_t bytes, int64_t page_bytes)
      : page_bytes_(page_bytes),
        written_(static_cast<size_t>((bytes + page_bytes - 1) / page_bytes)) {}
  void mark(int64_t offset, int64_t bytes) {
    if (bytes == 0) return;
    const auto first = static_cast<size_t>(offset / page_bytes_);
    const auto last = static_cast<size_t>((offset + bytes - 1) / page_bytes_);
    std::fill(written_.begin() + static_cast<int64_t>(first),
              written_.begin() + static_cast<int64_t>(last) + 1, true);
  }
  int64_t bytes() const { return page_bytes_ * std::count(written_.begin(), written_.end(), true); }

 private:
  int64_t page_bytes_;
  std::vector<bool> written_;
};

void mark_step(const Step& step, int64_t rank, int64_t iterations, Pages& pages) {
  for (const Operand& o : step.outputs) {
    const int64_t slices = (iterations - 1) / o.period + 1;
    const int64_t base = o.base + rank * o.rank_stride;
    pages.mark(base, o.bytes + (slices - 1) * o.iteration_bytes);
  }
}

}  // namespace

int64_t planned_bytes(const Plan& plan) {
  return plan.arena_bytes + window_bytes_per_rank(plan.fabric.window_ranks);
}

int64_t written_page_bytes(const Plan& plan, const std::vector<std::string>& programs,
                           int64_t rank) {
  // A GPU's driver knows of no untouched pages.
  if (backend_of(plan.target) == Backend::kCuda) return round_up(plan.arena_bytes, plan.page_bytes);
  Pages pages(plan.arena_bytes, plan.page_bytes);
  for (const std::string& name : programs) {
    const Program& program = plan.program(name);
    for (int32_t slot : program.host_slots) {
      pages.mark(plan.slots[static_cast<size_t>(slot)].offset,
                 plan.slots[static_cast<size_t>(slot)].bytes);
    }
    for (const Step& step : program.steps) {
      for (const Operand& o : step.inputs) {  // a slot that is read was filled: by a checkpoint
        if (o.base < plan.persistent_bytes) pages.mark(o.base + rank * o.rank_stride, o.bytes);
      }
      if (step.op == Op::kChunked) {
        const Body& body = program.bodies[static_cast<size_t>(step.body)];
        for (const Step& inner : body.steps) {
          mark_step(inner, rank, body.count, pages);
          pages.mark(inner.workspace.base, inner.workspace.bytes);
        }
      } else {
        mark_step(step, rank, 1, pages);
        pages.mark(step.workspace.base, step.workspace.bytes);
      }
    }
  }
  return pages.bytes();
}

}  // namespace memwall
