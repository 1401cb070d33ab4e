#include "runtime/cli/bench_run.h"

#include <algorithm>

#include "comm/agree.h"
#include "runtime/base/hash.h"
#include "runtime/base/rng.h"
#include "runtime/cli/budget.h"
#include "runtime/cli/settings.h"
#include "runtime/kernels/machine.h"

namespace memwall {
namespace {

constexpr uint32_t kTokenStream = 0x7ffffff0;  // of rng.h's draws: no parameter's

BenchRun prepare(const ConfigOptions& options, const GivenConfig& given, const Job& job) {
  BenchRun out;
  out.config = effective(given.config, job.ranks());
  const Gpt2 model(gpt_spec(out.config));
  const Hosting hosting = hosting_of(job.session());
  out.plan = compile(model, compile_settings(out.config, hosting));
  const SearchBase base{options, job.ranks(), hosting};
  refuse_over_budget(out.plan, out.config, what_would_fit(out.plan, out.config, base));
  refuse_over_machine(out.plan, job.ranks_on_host());
  const config::Data& data = out.config.data();
  out.tokens = data.global_batch_size() * data.seq_length();
  out.model_flops = model.flops(out.tokens);
  return out;
}

}  // namespace

BenchRun bench_run(const ConfigOptions& options, Job& job) {
  const GivenConfig given = load_config(options.path, options.overrides);
  validate(given, job.ranks(), Purpose::kBench);
  job.connect(effective(given.config, job.ranks()).communication());
  BenchRun out;
  run_together(job.comm(), [&] { out = prepare(options, given, job); });
  check_agreement(job.comm(), {{"version of Memwall", MEMWALL_VERSION},
                               {"plan", hash_hex(plan_hash(out.plan))},
                               {"CPU features", cpu_features()}});
  return out;
}

MicroBatchFeed synthetic_tokens(const config::Config& config, const Communicator& comm) {
  const TrainSettings settings = train_settings(config, comm.size());
  const BatchLayout layout{comm.size(), settings.micro_batch, settings.global_batch};
  const int64_t length = settings.seq_length;
  const auto vocabulary = static_cast<uint64_t>(config.model().vocab_size());
  const auto seed = static_cast<uint64_t>(settings.seed);
  const int rank = comm.rank();
  return [=](int64_t step, int64_t micro_step, std::span<int32_t> tokens,
             std::span<int32_t> targets, std::span<int64_t> samples) {
    for (size_t row = 0; row < samples.size(); ++row) {
      samples[row] = layout.sample(step, micro_step, rank, static_cast<int64_t>(row));
      const auto token = [&](int64_t i) {
        const auto index = static_cast<uint64_t>(samples[row] * (length + 1) + i);
        return static_cast<int32_t>(random_bits(seed, kTokenStream, index) * vocabulary >> 32);
      };
      for (int64_t i = 0; i < length; ++i) {
        const size_t at = row * static_cast<size_t>(length) + static_cast<size_t>(i);
        tokens[at] = token(i);
        targets[at] = token(i + 1);
      }
    }
  };
}

bool has_two_kinds(const Plan& plan) {
  return plan.has_program("update_hessian") && plan.has_program("update");
}

double slowest(Communicator& comm, double seconds) {
  const std::vector<double> all = comm.gather_all({seconds});
  return *std::max_element(all.begin(), all.end());
}

}  // namespace memwall
