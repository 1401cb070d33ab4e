#include "runtime/cli/saved_run.h"

#include "comm/agree.h"
#include "runtime/base/hash.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/settings.h"
#include "runtime/train/checkpoint.h"

namespace memwall {

SavedRun open_saved_run(const std::string& argument) {
  SavedRun run;
  run.folder = find_run(argument);
  run.checkpoint = find_checkpoint(run.folder);
  run.config = load_config(run.folder + '/' + std::string(kConfigFile)).config;
  return run;
}

std::unique_ptr<LoadedModel> load_model(const SavedRun& run, const GptSpec& spec,
                                        const CompileSettings& settings, Job& job) {
  auto model = std::make_unique<LoadedModel>();
  run_together(job.comm(), [&] {
    model->plan = compile(Gpt2(spec), settings);
    check_budget(model->plan, budget_bytes(run.config));
  });
  check_agreement(job.comm(), {{"version of Memwall", MEMWALL_VERSION},
                               {"plan", hash_hex(plan_hash(model->plan))}});
  run_together(job.comm(), [&] {
    model->executor = std::make_unique<Executor>(model->plan, job.comm(), job.threads());
    load_weights(*open_checkpoint_weights(run.checkpoint), *model->executor);
  });
  return model;
}

}  // namespace memwall
