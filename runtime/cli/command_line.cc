#include "runtime/cli/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cli/bench.h"
#include "runtime/cli/job.h"
#include "runtime/cli/verbs.h"

namespace memwall {
namespace {

constexpr std::array<std::string_view, 13> kVerbs = {
    "train", "plan",     "fit",     "eval",     "generate", "export", "show",
    "bench", "tokenize", "hessian", "simulate", "scale",    "report"};
constexpr std::array<std::string_view, 4> kBenches = {"gemm", "collectives", "machine", "step"};

struct Options {
  TrainOptions train;
  PlanOptions plan;
  FitOptions fit;
  EvalOptions eval;
  GenerateOptions generate;
  ExportOptions exported;
  ShowOptions show;
  HessianOptions hessian;
  TokenizeOptions tokenize;
  BenchStepOptions bench_step;
  BenchGemmOptions bench_gemm;
  BenchCollectivesOptions bench_collectives;
  BenchMachineOptions bench_machine;
  SimulateOptions simulate;
  ReportOptions report;
  ScaleOptions scale;
};

using Verb = std::function<ExitCode()>;

// A verb that may run under mpirun.
Verb in_a_job(std::function<ExitCode(Job&)> verb) {
  return [verb = std::move(verb)] {
    Job job;
    try {
      return verb(job);
    } catch (const std::exception& error) {
      return job.fail(error);
    }
  };
}

CLI::App* add_verb(CLI::App& app, const char* name, const char* description, Verb& chosen,
                   Verb verb) {
  CLI::App* sub = app.add_subcommand(name, description);
  sub->final_callback([&chosen, verb = std::move(verb)] { chosen = verb; });
  return sub;
}

void add_config(CLI::App& verb, ConfigOptions& options, bool required) {
  verb.add_option("CONFIG", options.path,
                  "a run's configuration, e.g. configs/quickstart.textproto")
      ->required(required);
  verb.add_option("--set", options.overrides,
                  "FIELD=VALUE: replaces a field of CONFIG, e.g. --set parallel.zero_stage=0; may "
                  "be given several times")
      ->allow_extra_args(false)
      ->option_text("FIELD=VALUE ...");
}

void add_run(CLI::App& verb, std::string& run) {
  verb.add_option("RUN", run, "a run folder, or runs/latest")->required();
}

void add_train(CLI::App& app, Options& o, Verb& chosen) {
  CLI::App* verb =
      add_verb(app, "train", "Train a model: alone, or on all ranks of mpirun or srun.", chosen,
               in_a_job([&o](Job& job) { return train_verb(o.train, job); }));
  add_config(*verb, o.train.config, true);
  verb->add_option("--run-dir", o.train.run_dir,
                   "the run's folder (default: runs/NAME-YYYYmmdd-HHMMSS; with --resume "
                   "runs/latest)");
  verb->add_flag("--resume", o.train.resume,
                 "go on from the newest valid checkpoint of the run folder; start where there is "
                 "none");
  verb->footer(
      "SIGUSR1 to mpirun or srun saves and stops (exit code 0), SIGUSR2 saves and goes on.");
}

void add_plan(CLI::App& app, Options& o, Verb& chosen) {
  CLI::App* verb = add_verb(
      app, "plan", "Show what every rank will hold, send and compute; no MPI, GPU or data needed.",
      chosen, [&o] { return plan_verb(o.plan); });
  add_config(*verb, o.plan.config, false);
  verb->add_option("--ranks", o.plan.ranks, "number of ranks")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  CLI::Option* cluster = verb->add_option("--cluster", o.plan.cluster,
                                          "also predict a step's seconds on this machine, e.g. "
                                          "configs/clusters/dgx-h100.textproto");
  CLI::Option* target = verb->add_option("--target", o.plan.target,
                                         "what the plan is for: cpu, sm_80, sm_90 or sm_100; "
                                         "default as run.device says, CUDA being sm_90");
  CLI::Option* json = verb->add_flag("--json", o.plan.json, "print one JSON object");
  CLI::Option* dump = verb->add_flag("--dump", o.plan.dump, "print the whole plan, to be re-read");
  json->excludes(dump);
  CLI::Option* check =
      verb->add_option("--check", o.plan.check_file, "read such a dump and run the verifier on it");
  cluster->excludes(dump)->excludes(check);
  target->excludes(check);
}

void add_simulate(CLI::App& app, Options& o, Verb& chosen) {
  SimulateOptions& s = o.simulate;
  CLI::App* verb = add_verb(app, "simulate",
                            "Predict a step's seconds, rank count by rank count, on a described "
                            "cluster; no MPI, GPU or data needed.",
                            chosen, [&s] { return simulate_verb(s); });
  add_config(*verb, s.config, true);
  verb->add_option("--cluster", s.cluster, "the machine, e.g. configs/clusters/dgx-h100.textproto")
      ->required();
  verb->add_option("--ranks", s.ranks, "8..16384 doubles from the first; or a list, 8,24,64")
      ->required();
  verb->add_option("--what-if", s.what_if,
                   "factors of the machine's rates, e.g. flops=0.5,dram=2,link=4");
  verb->add_option("--algorithm", s.algorithm, "who sends what to whom in a collective")
      ->check(CLI::IsMember({"auto", "pairwise", "ring", "two_level"}))
      ->capture_default_str();
  verb->add_option("--against", s.against,
                   "also predict this run, or all runs of this folder of memwall scale, each by "
                   "its own configuration, and print the error; may be repeated")
      ->expected(1)
      ->take_all();
  verb->add_flag("--json", s.json, "print one JSON object");
  verb->footer(
      "Weak scaling: what a rank does in a step stays, the global batch grows with the ranks. "
      "--algorithm ring is --set communication.algorithm=RING.");
}

void add_scale(CLI::App& app, Options& o, Verb& chosen) {
  ScaleOptions& s = o.scale;
  CLI::App* verb = add_verb(app, "scale",
                            "Train CONFIG for some steps on each rank count, and compare: launches "
                            "mpirun or srun itself.",
                            chosen, [&s] { return scale_verb(s); });
  add_config(*verb, s.config, true);
  verb->add_option("--ranks", s.ranks, "1,2,4,8; or 1..8 doubles from the first")->required();
  verb->add_option("--stages", s.stages, "ZeRO stages, as 0,1,2,3 (default: CONFIG's)");
  CLI::Option* weak = verb->add_flag(
      "--weak", s.weak, "the default: a rank's batch stays, the global batch grows with the ranks");
  verb->add_flag("--strong", s.strong, "the global batch stays")->excludes(weak);
  verb->add_flag("--local", s.local, "the default: all ranks on this host");
  verb->add_option("--hosts", s.hosts, "node1,node2 or a hostfile: mpirun starts the ranks there");
  verb->add_flag("--slurm", s.slurm, "inside a Slurm job: srun starts the ranks on its nodes");
  verb->add_option("--link", s.link,
                   "100mbit: hosts that are network namespaces on this machine, with links of this "
                   "rate; root, and iproute2");
  verb->add_option("--ranks-per-host", s.ranks_per_host,
                   "ranks on each host (default: one as long as there are hosts left, then all "
                   "hosts equally; with --link 1)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--steps", s.steps, "of each run; the first fifth of them does not count")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  verb->add_option("--cluster", s.cluster,
                   "also predict each run on this machine, e.g. configs/clusters/...");
  verb->add_flag("--calibrate", s.calibrate,
                 "measure the machine and its links at each rank count (bench machine, bench "
                 "collectives), and predict each run on that")
      ->excludes("--cluster");
  verb->add_option("--folder", s.folder,
                   "where the runs and scale.json lie (default: "
                   "runs/scale-NAME); a sweep that is there goes on");
  verb->add_flag("--json", s.json, "print one JSON object");
}

void add_fit(CLI::App& app, Options& o, Verb& chosen) {
  FitOptions& f = o.fit;
  CLI::App* verb = add_verb(app, "fit",
                            "Find what fits a memory budget, by compiling plans; no MPI, GPU or "
                            "data needed.",
                            chosen, [&f] { return fit_verb(f); });
  add_config(*verb, f.config, true);
  verb->add_option("--ranks", f.ranks, "number of ranks")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--budget", f.budget,
                   "what a rank may hold, e.g. 512MiB (default: CONFIG's memory.budget)");
  verb->add_option("--vary", f.vary,
                   "settings: the cheapest ZeRO stage, checkpointing policy, micro-batch and "
                   "precision; layers: the deepest model; micro_batch: the largest one")
      ->capture_default_str();
  verb->add_flag("--json", f.json, "print one JSON object");
}

void add_generate(CLI::App& app, Options& o, Verb& chosen) {
  GenerateOptions& g = o.generate;
  CLI::App* verb = add_verb(app, "generate", "Continue a text.", chosen,
                            in_a_job([&g](Job& job) { return generate_verb(g, job); }));
  add_run(*verb, g.run);
  verb->add_option("--prompt", g.prompt, "the text to continue")->required();
  verb->add_option("--tokens", g.tokens, "how many tokens to add")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  SamplingSettings& s = g.sampling;
  const auto add = [verb](const char* name, auto& value, const char* description) {
    verb->add_option(name, value, description)->capture_default_str();
  };
  add("--temperature", s.temperature, "0: always the likeliest token");
  add("--top-k", s.top_k, "only among the k likeliest tokens; 0: all");
  add("--top-p", s.top_p, "only among the fewest tokens whose probability reaches p");
  add("--seed", s.seed, "the same seed writes the same text");
}

void add_bench_gemm(CLI::App& bench, BenchGemmOptions& g, Verb& chosen) {
  CLI::App* verb = add_verb(bench, "gemm",
                            "Products one by one: the kernel in FP32 and FP16 beside one call of "
                            "the library behind it.",
                            chosen, in_a_job([&g](Job& job) { return bench_gemm_verb(g, job); }));
  add_config(*verb, g.config, false);
  verb->add_option(
          "--shape", g.shapes,
          "instead of CONFIG's: MxNxK, with :NN, :NT, :TN or :TT for how the operands lie; "
          "may be given several times")
      ->allow_extra_args(false);
  verb->add_option("--seconds", g.seconds, "how long to measure each product")
      ->check(CLI::Range(1e-3, 1e3))
      ->capture_default_str();
  verb->add_flag("--json", g.json, "print one JSON object");
}

void add_bench_collectives(CLI::App& bench, BenchCollectivesOptions& c, Verb& chosen) {
  CLI::App* verb =
      add_verb(bench, "collectives",
               "Under mpirun: collectives over each transport beside the MPI library's own; every "
               "result is verified.",
               chosen, in_a_job([&c](Job& job) { return bench_collectives_verb(c, job); }));
  verb->add_option("--bytes", c.bytes,
                   "input of a rank, e.g. 16MiB; may be given several times (default: 64 B to 16 "
                   "MiB)")
      ->allow_extra_args(false);
  verb->add_option("--rounds", c.rounds, "how often to measure each")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--fit", c.fit,
                   "add the figures to this cluster's description, made by bench machine: sizes "
                   "for that (default), and about 1 s a collective and size");
  verb->add_flag("--json", c.json, "print one JSON object");
}

void add_bench_machine(CLI::App& bench, BenchMachineOptions& m, Verb& chosen) {
  CLI::App* verb =
      add_verb(bench, "machine",
               "Every kind of work of CONFIG's training step, timed on synthetic "
               "tokens by all ranks at once, for memwall simulate and scale.",
               chosen, in_a_job([&m](Job& job) { return bench_machine_verb(m, job); }));
  add_config(*verb, m.config, true);
  verb->add_option("--steps", m.steps, "how many steps to measure at least, after two that are not")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--seconds", m.seconds, "for how long to measure at least")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  verb->add_option("--fit", m.fit,
                   "make this cluster's description, or add to it: a device is a rank as it runs "
                   "here, beside the host's other ranks");
  verb->add_flag("--json", m.json, "print one JSON object");
}

void add_bench(CLI::App& app, Options& o, Verb& chosen) {
  CLI::App* bench = app.add_subcommand("bench", "Measure what this machine reaches.");
  bench->require_subcommand(1);
  add_bench_gemm(*bench, o.bench_gemm, chosen);
  add_bench_collectives(*bench, o.bench_collectives, chosen);
  add_bench_machine(*bench, o.bench_machine, chosen);
  BenchStepOptions& s = o.bench_step;
  CLI::App* step = add_verb(*bench, "step",
                            "Training steps on synthetic tokens, interleaved with their own "
                            "products: alone, or on all ranks of mpirun or srun.",
                            chosen, in_a_job([&s](Job& job) { return bench_step_verb(s, job); }));
  add_config(*step, s.config, true);
  step->add_option("--steps", s.steps, "how many steps to measure, after two that are not")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  step->add_flag("--json", s.json, "print one JSON object");
  step->footer(
      "CONFIG's data and model.init_from are not read: tokens are drawn by a counter-based "
      "generator, weights are initial ones. In FP16 and BF16 the limit is that of FP32 products.");
}

void add_tokenize(CLI::App& app, Options& o, Verb& chosen) {
  TokenizeOptions& t = o.tokenize;
  CLI::App* verb = add_verb(app, "tokenize", "Write token files from texts, for data.tokens.",
                            chosen, in_a_job([&t](Job& job) { return tokenize_verb(t, job); }));
  verb->add_option("TEXT", t.texts, "UTF-8 files, in this order, each a document")->required();
  verb->add_option(
          "--tokenizer", t.tokenizer,
          "as data.tokenizer: bytes, a SentencePiece model, or a folder with vocab.json and "
          "merges.txt")
      ->required();
  verb->add_option("--output", t.output,
                   "the folder for train_00000.bin, ... and val_00000.bin, ...")
      ->required();
  verb->add_option("--validation-fraction", t.validation_fraction,
                   "last part of the tokens, for val_*.bin, in [0, 1)")
      ->check(CLI::Range(0.0, std::nextafter(1.0, 0.0)))
      ->capture_default_str();
  verb->add_option("--tokens-per-file", t.tokens_per_file, "a new file begins after so many")
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}))
      ->capture_default_str();
  verb->add_flag(
      "--no-separator", t.no_separator,
      "nothing between documents; else <|endoftext|> or </s>, where the tokenizer has it");
  verb->add_flag("--overwrite", t.overwrites,
                 "replace all train_*.bin and val_*.bin of the folder");
  verb->add_flag("--json", t.json, "print one JSON object");
}

void add_hessian(CLI::App& app, Options& o, Verb& chosen) {
  HessianOptions& h = o.hessian;
  CLI::App* verb =
      add_verb(app, "hessian",
               "Curvature of a run's loss: its Hessian's trace by tensor, and the ends of its "
               "spectrum.",
               chosen, in_a_job([&h](Job& job) { return hessian_verb(h, job); }));
  add_run(*verb, h.run);
  constexpr int64_t kMany = int64_t{1} << 30, kMostProducts = int64_t{1} << 20;
  const auto count = [verb](const char* name, int64_t& value, int64_t least, int64_t most,
                            const char* description) {
    verb->add_option(name, value, description)
        ->check(CLI::Range(least, most))
        ->capture_default_str();
  };
  count("--windows", h.windows, 1, kMany, "samples 0 ... N-1 of the data, in sequential order");
  count("--probes", h.probes, 1, kMany, "random vectors for the trace");
  count("--iterations", h.iterations, 0, kMostProducts,
        "products with vectors at most, for eigenvalues; 0: none");
  count("--eigenvalues", h.eigenvalues, 1, kMostProducts, "how many at each end of the spectrum");
  verb->add_option("--tolerance", h.tolerance, "of an eigenvalue, relative to the largest")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--data", h.data, "which part of the data")
      ->check(CLI::IsMember({"train", "validation"}))
      ->capture_default_str();
  verb->add_option("--seed", h.seed, "of the random vectors")->capture_default_str();
  verb->add_option("--dump", h.dump, "a new folder for z, H z and the gradient as safetensors");
  verb->add_option("--svg", h.svg, "the picture's file (default: RUN/hessian.svg)");
  verb->add_flag("--json", h.json, "print one JSON object");
}

void add_report(CLI::App& app, Options& o, Verb& chosen) {
  ReportOptions& r = o.report;
  CLI::App* verb = add_verb(app, "report",
                            "Runs as one HTML file that needs no network: loss, memory, traffic, "
                            "time, scaling, and the memory wall.",
                            chosen, [&r] { return report_verb(r); });
  verb->add_option("RUN", r.runs, "run folders, runs/latest, or folders of memwall scale")
      ->required();
  verb->add_option("-o,--output", r.output, "the file to write, e.g. report.html")->required();
  verb->add_option("--cluster", r.cluster,
                   "also compare with what is predicted on this machine, e.g. "
                   "configs/clusters/cpu-host.textproto");
  verb->add_option("--trace", r.trace,
                   "also write what one run's ranks have traced (run.trace_steps) as one file for "
                   "ui.perfetto.dev");
}

void add_verbs(CLI::App& app, Options& o, Verb& chosen) {
  add_train(app, o, chosen);
  add_plan(app, o, chosen);
  add_fit(app, o, chosen);
  add_simulate(app, o, chosen);
  add_report(app, o, chosen);
  add_scale(app, o, chosen);
  add_bench(app, o, chosen);

  CLI::App* eval = add_verb(app, "eval", "Loss on the whole validation split.", chosen,
                            in_a_job([&o](Job& job) { return eval_verb(o.eval, job); }));
  add_run(*eval, o.eval.run);
  eval->add_flag("--json", o.eval.json, "print one JSON object: loss, tokens");

  add_generate(app, o, chosen);
  add_tokenize(app, o, chosen);
  add_hessian(app, o, chosen);

  CLI::App* exported =
      add_verb(app, "export", "Write the weights as a Hugging Face folder, in FP32.", chosen,
               in_a_job([&o](Job& job) { return export_verb(o.exported, job); }));
  add_run(*exported, o.exported.run);
  exported->add_option("FOLDER", o.exported.folder, "a new or empty folder")->required();

  CLI::App* show = add_verb(app, "show", "A run's final tables again.", chosen,
                            [&o] { return show_verb(o.show); });
  add_run(*show, o.show.run);
  show->add_flag("--json", o.show.json, "print one JSON object");
}

int bad_input(const std::string& message) {
  if (launched_rank() == 0) fmt::print(stderr, "{}\n", error_text(message));
  return static_cast<int>(ExitCode::kBadInput);
}

// The verb that the words name, bound to `options`; what it returns where they ask for nothing but
// help, or are wrong, is in `exit_code`.
Verb parse(int argc, char** argv, Options& options, int& exit_code) {
  CLI::App app("Memwall trains Transformers whose state does not fit on one device.", "memwall");
  app.set_version_flag("--version",
                       fmt::format("memwall {}, compiled for {}", MEMWALL_VERSION, MEMWALL_ARCH));
  app.require_subcommand(1);
  app.footer("memwall VERB --help says more of each.");
  Verb chosen;
  add_verbs(app, options, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    exit_code = launched_rank() == 0 ? app.exit(asked) : 0;
    return nullptr;
  } catch (const CLI::ParseError& error) {
    exit_code = bad_input(std::string(error.what()) + " (memwall --help)");
    return nullptr;
  }
  return chosen;
}

}  // namespace

int run_command_line(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  const bool known = std::find(kVerbs.begin(), kVerbs.end(), first) != kVerbs.end();
  if (!known && !first.starts_with('-')) {
    return bad_input(fmt::format("{} (commands: {})",
                                 argc > 1 ? "unknown command '" + first + "'" : "no command given",
                                 fmt::join(kVerbs, ", ")));
  }
  if (first == "bench") {
    const std::string kind = argc > 2 ? argv[2] : "";
    const bool is_bench = std::find(kBenches.begin(), kBenches.end(), kind) != kBenches.end();
    if (!is_bench && !kind.starts_with('-')) {
      return bad_input(
          fmt::format("bench: {} (allowed: {})",
                      kind.empty() ? "it says nothing to measure" : "there is no '" + kind + "'",
                      fmt::join(kBenches, ", ")));
    }
  }
  Options options;
  options.train.command_line.assign(argv, argv + argc);
  options.report.command_line = options.train.command_line;
  for (ConfigOptions* config : {&options.train.config, &options.plan.config, &options.fit.config,
                                &options.simulate.config, &options.scale.config}) {
    config->program = argv[0];
  }
  int exit_code = 0;
  const Verb verb = parse(argc, argv, options, exit_code);
  if (!verb) return exit_code;
  try {
    const ExitCode code = verb();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw Error("cannot be written", "standard output", "is the disk full?");
    }
    return static_cast<int>(code);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error_text(error.what()));
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error_text(error.what()));
    return static_cast<int>(ExitCode::kFailed);
  }
}

}  // namespace memwall
