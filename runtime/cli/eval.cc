// `memwall eval`: the loss of a run's weights on its whole validation split.
#include <fmt/format.h>

#include "comm/agree.h"
#include "runtime/base/hash.h"
#include "runtime/cli/saved_run.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/verbs.h"
#include "runtime/train/metrics.h"
#include "runtime/train/trainer.h"

namespace memwall {

ExitCode eval_verb(const EvalOptions& options, Job& job) {
  const SavedRun run = open_saved_run(options.run);
  job.connect_for_inference(run.config.communication());
  Communicator& comm = job.comm();
  Dataset data;
  run_together(comm, [&] {
    data = open_dataset(dataset_spec(run.config, job.speaks()));
    if (data.validation.size > 0) return;
    throw InputError("the run has no validation split", run.folder,
                     "data.validation_fraction is 0 and data.validation_tokens is not given");
  });
  check_agreement(comm, {{"checkpoint", run.checkpoint}, {"data", hash_hex(data.fingerprint)}});

  const GptSpec spec = gpt_spec(run.config);
  CompileSettings settings = inference_settings(comm);
  settings.evaluate = true;
  const auto model = load_model(run, spec, settings, job);
  const Evaluation result = evaluate(*model->executor, data.validation, spec.time, spec.batch);
  if (!job.speaks()) return ExitCode::kDone;
  if (options.json) {
    const nlohmann::ordered_json object = {{"loss", exact(result.loss)}, {"tokens", result.tokens}};
    fmt::print("{}\n", object.dump());
  } else {
    fmt::print("loss {:.6f} nats a token over {} tokens ({})\n", result.loss,
               count_text(result.tokens), run.checkpoint);
  }
  return ExitCode::kDone;
}

}  // namespace memwall
