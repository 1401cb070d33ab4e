#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "runtime/config/config.h"
#include "runtime/config/fields.h"
#include "runtime/config/problem.h"

namespace memwall {
namespace {

constexpr std::array<std::string_view, 8> kMayChange = {
    "run.steps",      "run.log_every",   "run.eval_every", "run.save_every", "run.keep_checkpoints",
    "run.time_limit", "run.trace_steps", "run.cuda_graphs"};

}  // namespace

config::Config resumed(const config::Config& before_now, const GivenConfig& now, int64_t ranks) {
  config::Config stored = before_now;
  config::Config out = effective(now.config, ranks);
  // What ran on a GPU recorded CUDA; AUTO is a CPU's.
  if (stored.run().device() != config::Run::CUDA) {
    const bool cpu = out.run().device() != config::Run::CUDA;
    stored.mutable_run()->set_device(cpu ? out.run().device() : config::Run::CPU);
  }
  resolve_paths(out);
  // The decay was laid out when the run was created: more steps do not stretch it.
  const bool asks_for_decay = has_field(now.config, "schedule.decay_steps");
  if (!asks_for_decay && has_field(stored, "schedule.decay_steps")) {
    out.mutable_schedule()->set_decay_steps(stored.schedule().decay_steps());
  }

  std::vector<Problem> problems;
  for (const std::string& field : all_fields()) {
    if (std::find(kMayChange.begin(), kMayChange.end(), field) != kMayChange.end()) continue;
    const std::string before = value_text(stored, field), after = value_text(out, field);
    if (before == after) continue;
    const std::string hint = problems.empty() ? fmt::format("; what may change on resume: {}",
                                                            fmt::join(kMayChange, ", "))
                                              : "";
    problems.push_back({now.at(field),
                        fmt::format("is {}, but the run was started with {}", after, before),
                        before + hint});
  }
  throw_problems(problems);
  return out;
}

}  // namespace memwall
