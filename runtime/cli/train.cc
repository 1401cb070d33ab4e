// `memwall train`: from a configuration to a trained, saved model.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>

#include "comm/agree.h"
#include "runtime/base/hash.h"
#include "runtime/cli/budget.h"
#include "runtime/cli/environment.h"
#include "runtime/cli/gpu.h"
#include "runtime/cli/gpu_attention.h"
#include "runtime/cli/gpu_products.h"
#include "runtime/cli/plan_text.h"
#include "runtime/cli/rank_tables.h"
#include "runtime/cli/run_folder.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/verbs.h"
#include "runtime/cli/window_rounding.h"
#include "runtime/data/atomic_file.h"
#include "runtime/data/hugging_face.h"
#include "runtime/kernels/machine.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/requests.h"

namespace memwall {
namespace {

// Everything that is known before a byte of the model is allocated, the same on all ranks.
struct PreparedRun {
  std::string folder;    // absolute
  bool resumes = false;  // the folder holds a run already
  config::Config config;
  Plan plan;
  Dataset data;
};

// The folder named, or with --resume the latest one, or a new one. Only rank 0's answer counts.
std::string choose_folder(const TrainOptions& options, const config::Config& config) {
  if (!options.run_dir.empty()) return options.run_dir;
  if (options.resume && holds_run("runs/latest")) return "runs/latest";
  return default_run_folder(config.run().name(), std::time(nullptr));
}

// As it was asked for, or, where the folder holds a run, what that run goes on with.
config::Config run_config(const PreparedRun& run, const GivenConfig& given, int64_t ranks) {
  if (run.resumes) {
    const std::string file = fmt::format("{}/{}", run.folder, kConfigFile);
    return resumed(load_config(file).config, given, ranks);
  }
  config::Config config = effective(given.config, ranks);
  resolve_paths(config);
  return config;
}

// What cannot be gone on with is refused while the run's record is still what it was. The ranks
// come before the configuration: another number of them changes the default batch.
void refuse_other_ranks(const std::string& run_folder, int64_t ranks) {
  const std::string folder = newest_checkpoint(run_folder);
  if (folder.empty()) return;
  const int64_t found = read_checkpoint_summary(folder).ranks;
  if (found == ranks) return;
  throw InputError(fmt::format("was saved by {} rank{}, and this job has {}: optimizer state "
                               "cannot be resharded yet",
                               found, found == 1 ? "" : "s", ranks),
                   folder, fmt::format("resume with {}", found));
}

void refuse_other_checkpoint(const PreparedRun& run) {
  const std::string folder = newest_checkpoint(run.folder);
  if (folder.empty()) {
    const std::string damage = damage_of_newest(run.folder);
    if (damage.empty()) return;
    throw InputError("no valid checkpoint is left: " + damage, "",
                     "bring one back, or move the run's folder away to start afresh");
  }
  const CheckpointSummary found = read_checkpoint_summary(folder);
  if (found.info.data_fingerprint != run.data.fingerprint) {
    throw InputError("the data files are not those that the run was started with", folder,
                     "bring them back, or start another run");
  }
  if (run.config.run().steps() < found.info.step) {
    throw InputError(fmt::format("has finished {} steps already, more than run.steps = {}",
                                 found.info.step, run.config.run().steps()),
                     folder, "a larger run.steps");
  }
}

// Collective: what `text` says on rank 0, which alone calls it.
template <class Text>
std::string of_rank_0(Communicator& comm, Text text) {
  std::string mine;
  run_together(comm, [&] {
    if (comm.rank() == 0) mine = text();
  });
  return comm.gather_text(mine)[0];
}

PreparedRun prepare(const TrainOptions& options, const GivenConfig& given, const Hosting& hosting,
                    const Gpu& gpu, Job& job) {
  Communicator& comm = job.comm();
  PreparedRun run;
  run.folder = agree_on_folder(comm, choose_folder(options, effective(given.config, comm.size())));
  run_together(comm, [&] {
    run.resumes = holds_run(run.folder);
    if (run.resumes && !options.resume) {
      throw InputError("holds a run already", run.folder,
                       "go on with it by --resume, or name another folder with --run-dir");
    }
    if (run.resumes) refuse_other_ranks(run.folder, comm.size());
    run.config = run_config(run, given, comm.size());
    run.plan = compile(Gpt2(gpt_spec(run.config)), compile_settings(run.config, hosting));
  });
  const std::string fits = of_rank_0(comm, [&] {
    return what_would_fit(run.plan, run.config, {options.config, comm.size(), hosting});
  });
  run_together(comm, [&] {
    refuse_over_budget(run.plan, run.config, fits);
    if (on_gpu(run.config)) {
      refuse_over_gpu(run.plan, run.config, gpu);
    } else {
      refuse_over_machine(run.plan, job.ranks_on_host());
    }
    run.data = open_dataset(dataset_spec(run.config, job.speaks()));
    if (run.resumes) refuse_other_checkpoint(run);
  });
  return run;
}

void check_ranks_agree(const PreparedRun& run, const Gpu& gpu, Communicator& comm) {
  check_agreement(comm, {{"version of Memwall", MEMWALL_VERSION},
                         {"configuration", hash_hex(hash_text(to_text(run.config)))},
                         {"plan", hash_hex(plan_hash(run.plan))},
                         {"data", hash_hex(run.data.fingerprint)},
                         {"CPU features", cpu_features()},
                         // Equal GPUs and libraries choose equal algorithms.
                         {"GPU and its libraries", gpu.text()}});
}

// Whatever the run folder says of the run before its first step. Rank 0 writes.
void write_record(const PreparedRun& run, const TrainOptions& options, Job& job) {
  make_run_folder(job.comm(), run.folder);
  const auto environment = environment_json(job, options.command_line);
  run_together(job.comm(), [&] {
    if (!job.speaks()) return;
    const auto write = [&](std::string_view name, const std::string& text) {
      write_file_atomically(fmt::format("{}/{}", run.folder, name), text);
    };
    const PlanTitle title{run.config.run().name(), gpt_spec(run.config), run.config.run().steps(),
                          planned_window_rounding(run.plan, run.config)};
    write(kPlanFile, plan_summary(run.plan, title) + '\n' + plan_listing(run.plan));
    write(kEnvironmentFile, environment.dump(2) + '\n');
    write(kConfigFile, to_text(run.config));  // last: it makes the folder a run's
    link_latest(run.folder);
  });
}

// The parameters of a fresh run: the init program's, or another model's.
void initialise(Executor& executor, const HuggingFaceFolder* source) {
  executor.run(executor.plan().program("init"));
  if (source != nullptr) load_weights(*source, executor);
}

// The model to start from; null where there is none, or where a checkpoint stands in its stead.
std::unique_ptr<HuggingFaceFolder> open_source(const PreparedRun& run) {
  const config::Config& config = run.config;
  if (config.model().init_from().empty() || !newest_checkpoint(run.folder).empty()) return nullptr;
  auto source = std::make_unique<HuggingFaceFolder>(config.model().init_from());
  const GptSpec spec = gpt_spec(config);
  const Gpt2Config wanted{spec.layers,  spec.hidden,     spec.heads,
                          spec.context, spec.vocabulary, spec.layer_norm_epsilon};
  if (source->config() == wanted) return source;
  const Gpt2Config& found = source->config();
  throw InputError(
      fmt::format("holds another model: {} layers, width {}, {} heads, context {}, vocabulary {}, "
                  "layer norm epsilon {}",
                  found.num_layers, found.hidden_size, found.num_heads, found.context_length,
                  found.vocab_size, found.layer_norm_epsilon),
      config.model().init_from(), "the fields of `model` must say the same");
}

TrainSettings settings_of(const PreparedRun& run, const TrainOptions& options, const Job& job) {
  TrainSettings settings = train_settings(run.config, job.ranks());
  settings.run_dir = run.folder;
  settings.resume = options.resume;
  settings.plan_hash = plan_hash(run.plan);
  settings.data_fingerprint = run.data.fingerprint;
  settings.cpu_features = cpu_features();
  settings.outside = job.outside();
  settings.peak_flops = run.config.run().peak_flops();
  return settings;
}

// Collective: every rank brings the last line of its own metrics.
void print_summary(const PreparedRun& run, const TrainResult& result, Job& job) {
  const std::string path = metrics_path(run.folder, job.rank());
  const std::vector<std::string> lines = job.comm().gather_text(last_metrics_line(path));
  const std::vector<std::string> means = job.comm().gather_text(mean_seconds(path).dump());
  if (!job.speaks()) return;
  std::vector<nlohmann::ordered_json> ranks, seconds;
  for (const std::string& mean : means) seconds.push_back(nlohmann::ordered_json::parse(mean));
  for (const std::string& line : lines) {
    if (!line.empty()) ranks.push_back(nlohmann::ordered_json::parse(line));
  }
  if (ranks.size() == lines.size()) fmt::print("\n{}", rank_tables(ranks));
  const std::string times = seconds_table(seconds);
  if (!times.empty()) fmt::print("\n{}", times);
  fmt::print("\n{} after step {}", result.stopped_on_request ? "stopped" : "done", result.step);
  if (!std::isnan(result.loss)) fmt::print(", loss {:.4f}", result.loss);
  if (!std::isnan(result.validation_loss)) {
    fmt::print(", validation loss {:.4f}", result.validation_loss);
  }
  fmt::print("\nrun folder: {}\n", run.folder);
}

}  // namespace

ExitCode train_verb(const TrainOptions& options, Job& job) {
  const auto started = std::chrono::steady_clock::now();
  const RequestSignals signals;  // from here on a signal is a request, however early
  GivenConfig given = load_config(options.config.path, options.config.overrides);
  validate(given, job.ranks(), Purpose::kTrain);
  settle_device(given.config, job.speaks());
  const bool with_gpu = on_gpu(given.config);
  const config::Communication links = effective(given.config, job.ranks()).communication();
  // Beside GPUs the hosts' own links carry what is not the plan's, and what is staged.
  if (with_gpu) {
    job.connect(links.timeout_seconds(), choose_fabric({}, hosting_of(job.session())));
  } else {
    job.connect(links);
  }
  Communicator& comm = job.comm();
  // AUTO is settled host by host.
  check_agreement(comm, {{"device", with_gpu ? "CUDA" : "CPU"}});
  Gpu gpu;
  if (with_gpu) {
    gpu = open_gpu(given.config.precision(), job);
    settle_attention(given.config, gpu, job);
  }
  const Hosting hosting = with_gpu ? hosting_with(gpu, job) : hosting_of(job.session());

  const PreparedRun run = prepare(options, given, hosting, gpu, job);
  check_ranks_agree(run, gpu, comm);
  job.outside().mark("plan_and_data", 0);
  std::unique_ptr<HuggingFaceFolder> source;
  run_together(comm, [&] { source = open_source(run); });
  write_record(run, options, job);

  if (with_gpu) connect_gpus(gpu, run.plan.fabric, run.config.communication(), job);
  double peak_flops = run.config.run().peak_flops();
  if (peak_flops == 0.0) {
    peak_flops = with_gpu ? gpu_gemm_flops(gpu, gpt_spec(run.config).dtype, job)
                          : measure_gemm_flops(job.threads());
  }
  if (with_gpu) agree_on_products(gpu, run.plan, job);
  gpu.graphs = run.config.run().cuda_graphs();
  // Ranks that share a GPU take their arenas one after the other, so that each sees what it took.
  std::unique_ptr<Executor> executor;
  const int turns = with_gpu ? job.ranks_on_host() : 1;
  for (int turn = 0; turn < turns; ++turn) {
    run_together(comm, [&] {
      if (turn != job.rank_on_host() % turns) return;
      executor = std::make_unique<Executor>(run.plan, comm, job.threads(), gpu.accelerator());
    });
  }
  if (with_gpu) prepare_attention(gpu, run.plan, run.config, job);
  share_arena(gpu, *executor, run.config, job);
  TrainSettings settings = settings_of(run, options, job);
  settings.started = started;
  settings.peak_flops = peak_flops;
  settings.outside.device = gpu.memory();
  const TrainResult result = train(*executor, run.data, settings,
                                   [&](Executor& fresh) { initialise(fresh, source.get()); });
  print_summary(run, result, job);
  return ExitCode::kDone;
}

}  // namespace memwall
