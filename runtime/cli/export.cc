// `memwall export`: the weights of a run as a Hugging Face folder.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <vector>

#include "comm/agree.h"
#include "runtime/cli/saved_run.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/verbs.h"
#include "runtime/data/hugging_face.h"
#include "runtime/train/checkpoint.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kElementsAtOnce = int64_t{1} << 20;

Gpt2Config hugging_face_config(const GptSpec& spec) {
  return {.num_layers = spec.layers,
          .hidden_size = spec.hidden,
          .num_heads = spec.heads,
          .context_length = spec.context,
          .vocab_size = spec.vocabulary,
          .layer_norm_epsilon = spec.layer_norm_epsilon};
}

void write_folder(const WeightSource& weights, const Gpt2Config& config,
                  const std::string& folder) {
  HuggingFaceWriter writer(folder, config);
  std::vector<float> buffer;
  for (const NamedShape& tensor : gpt2_tensors(config)) {
    const int64_t elements = tensor.shape.elements();
    for (int64_t first = 0; first < elements; first += kElementsAtOnce) {
      buffer.resize(static_cast<size_t>(std::min(kElementsAtOnce, elements - first)));
      weights.read(tensor.name, first, buffer);
      writer.append(tensor.name, std::span<const float>(buffer));
    }
  }
  writer.finish();
}

}  // namespace

ExitCode export_verb(const ExportOptions& options, Job& job) {
  const SavedRun run = open_saved_run(options.run);
  job.connect(run.config.communication().timeout_seconds());
  run_together(job.comm(), [&] {
    if (!job.speaks()) return;
    if (fs::exists(options.folder) &&
        !(fs::is_directory(options.folder) && fs::is_empty(options.folder))) {
      throw InputError("exists and is not an empty folder", options.folder,
                       "name a new one, nothing is overwritten");
    }
    const auto weights = open_checkpoint_weights(run.checkpoint);
    write_folder(*weights, hugging_face_config(gpt_spec(run.config)), options.folder);
    fmt::print(stderr, "memwall: wrote {}, the weights of {}\n", options.folder, run.checkpoint);
  });
  return ExitCode::kDone;
}

}  // namespace memwall
