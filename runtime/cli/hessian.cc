// `memwall hessian`: the curvature of a saved run's loss.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>
#include <span>
#include <system_error>

#include "comm/agree.h"
#include "memory/arena.h"
#include "runtime/base/hash.h"
#include "runtime/cli/hessian_svg.h"
#include "runtime/cli/saved_run.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/verbs.h"
#include "runtime/data/atomic_file.h"
#include "runtime/data/safetensors.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/hessian.h"
#include "runtime/train/lanczos.h"
#include "runtime/train/metrics.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Signs behind Lanczos's vectors: far from the draws of probes.
constexpr uint32_t kFirstLanczosDraw = uint32_t{1} << 31;

struct Measurement {
  HessianReport report;
  LanczosResult spectrum;
  double loss = 0.0;
  int64_t windows = 0, tokens = 0, step = 0;
  int64_t arena_bytes = 0, vector_bytes = 0;  // a rank
};

TokenRange part_of(const Dataset& data, const HessianOptions& options, const SavedRun& run) {
  if (options.data == "train") return data.training;
  if (data.validation.size > 0) return data.validation;
  throw InputError("the run has no validation split", run.folder, "--data train");
}

void check_options(const HessianOptions& options, int ranks) {
  if (options.windows % ranks != 0) {
    throw InputError(fmt::format("{} windows do not divide among {} ranks", options.windows, ranks),
                     "--windows", fmt::format("a multiple of {}", ranks));
  }
  const fs::path pictures = fs::path(options.svg).parent_path();
  if (!pictures.empty() && !fs::is_directory(pictures)) {
    throw InputError("no such folder", pictures.string(), "make it, or name another --svg");
  }
  if (options.dump.empty() || !fs::exists(options.dump)) return;
  if (!fs::is_directory(options.dump) || !fs::is_empty(options.dump)) {
    throw InputError("exists and is not an empty folder", options.dump,
                     "name a new one, nothing is overwritten");
  }
}

LanczosSettings lanczos_settings(const HessianOptions& options, const Plan& plan) {
  LanczosSettings settings;
  settings.dimension = plan.parameters;
  for (const Unit& unit : plan.units) settings.shard += unit.shard(plan.ranks);
  settings.iterations = std::min(options.iterations, settings.dimension);
  settings.largest = settings.smallest = std::min(options.eigenvalues, settings.iterations);
  settings.tolerance = options.tolerance;
  return settings;
}

// BudgetError where arenas and vectors of this host's ranks are larger than the memory it has left.
void refuse_over_machine(const Plan& plan, const LanczosSettings& settings, int64_t ranks_on_host) {
  const int64_t arena = planned_bytes(plan), left = available_memory_bytes();
  const int64_t vectors = settings.iterations == 0 ? 0 : lanczos_bytes(settings);
  const int64_t needed = ranks_on_host * (arena + vectors);
  if (needed <= left) return;
  const int64_t vector = settings.shard * static_cast<int64_t>(sizeof(double));
  const int64_t fitting =
      (left / ranks_on_host - arena) / vector - 1 - settings.largest - settings.smallest;
  std::string remedy = "more hosts";
  if (fitting > settings.largest) {
    remedy = fmt::format("--iterations of at most {}, or more hosts", fitting);
  } else if (ranks_on_host * arena <= left) {
    remedy = "--iterations 0, which leaves eigenvalues out, or more hosts";
  }
  throw BudgetError(fmt::format("a rank needs {} for its arena and {} for Lanczos's vectors of {} "
                                "products, {} on this host, which has {} left",
                                bytes_text(arena), bytes_text(vectors), settings.iterations,
                                bytes_text(needed), bytes_text(left)),
                    "", remedy);
}

// In FP32, or FP64 where the run trains in that.
GptSpec spec_of(const SavedRun& run, const HessianOptions& options, int ranks) {
  GptSpec spec = gpt_spec(run.config);
  if (spec.dtype != DType::kF64) spec.dtype = DType::kF32;
  spec.batch = std::gcd(options.windows / ranks, spec.batch);
  return spec;
}

CompileSettings settings_of(const SavedRun& run, const HessianOptions& options,
                            const Communicator& comm) {
  CompileSettings settings = inference_settings(comm);
  settings.curvature = true;
  settings.direction_seed = options.seed;
  settings.checkpointing = compile_settings(run.config, comm.size()).checkpointing;
  return settings;
}

Eigenvalue described(const RitzPair& pair, const Plan& plan, const Hessian& hessian, int rank) {
  std::vector<double> shares = tensor_dots(plan.units, plan.ranks, rank, pair.vector, pair.vector);
  hessian.sum_over_ranks(shares);
  return {pair.value, pair.residual, pair.converged, std::move(shares)};
}

void measure_trace(const HessianOptions& options, const Plan& plan, Hessian& hessian, int rank,
                   Measurement& out) {
  const auto shard = static_cast<size_t>(hessian.shard());
  std::vector<double> zhz(shard), ones(shard, 1.0);
  std::vector<std::vector<double>> samples;
  for (int64_t p = 0; p < options.probes; ++p) {
    hessian.signed_product(static_cast<uint32_t>(p + 1), zhz);
    std::vector<double> sums = tensor_dots(plan.units, plan.ranks, rank, zhz, ones);
    hessian.sum_over_ranks(sums);
    for (size_t t = 0; t < sums.size(); ++t) {
      if (std::isfinite(sums[t])) continue;
      throw SharedError("z * (H z) is not finite", out.report.tensors[t],
                        fmt::format("probe {}; memwall eval says whether the loss is", p + 1),
                        ExitCode::kFailed);
    }
    samples.push_back(std::move(sums));
  }
  out.loss = hessian.loss();
  out.report.trace = trace_statistics(samples);
}

void measure_spectrum(const LanczosSettings& settings, const Plan& plan, Hessian& hessian, int rank,
                      Measurement& out) {
  if (settings.iterations == 0) return;
  out.vector_bytes = lanczos_bytes(settings);
  out.spectrum =
      lanczos([&](std::span<const double> v, std::span<double> hv) { hessian.product(v, hv); },
              [&](std::span<double> values) { hessian.sum_over_ranks(values); },
              [&](int64_t number, std::span<double> v) {
                hessian.signs(kFirstLanczosDraw + static_cast<uint32_t>(number), v);
              },
              settings);
  for (const RitzPair& pair : out.spectrum.largest) {
    out.report.largest.push_back(described(pair, plan, hessian, rank));
  }
  for (const RitzPair& pair : out.spectrum.smallest) {
    out.report.smallest.push_back(described(pair, plan, hessian, rank));
  }
}

// A vector, its units gathered one after the other, written by rank 0 under the names that `export`
// writes.
void dump_vector(const std::string& path, std::span<const double> values, const Plan& plan,
                 Communicator& comm) {
  const auto name = [](const Segment& s) { return "transformer." + s.name; };
  std::vector<SafetensorsSpec> specs;
  for (const Unit& unit : plan.units) {
    for (const Segment& s : unit.segments) specs.push_back({name(s), DType::kF64, s.shape});
  }
  std::optional<SafetensorsWriter> writer;
  run_together(comm, [&] {
    if (comm.rank() == 0) writer.emplace(path, specs);
  });
  size_t before = 0;
  for (const Unit& unit : plan.units) {
    const auto count = static_cast<size_t>(unit.shard(plan.ranks));
    const auto mine = values.subspan(before, count);
    before += count;
    const std::vector<double> whole = comm.gather_all({mine.begin(), mine.end()});
    run_together(comm, [&] {
      if (!writer) return;
      for (const Segment& s : unit.segments) {
        writer->append(name(s), std::span(whole).subspan(static_cast<size_t>(s.offset),
                                                         static_cast<size_t>(s.count)));
      }
    });
  }
  run_together(comm, [&] {
    if (writer) writer->finish();
  });
}

// z, H z and the gradient of draw 1, the first probe's.
void dump(const std::string& folder, const Plan& plan, Hessian& hessian, Communicator& comm) {
  run_together(comm, [&] {
    if (comm.rank() != 0) return;
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw Error("cannot create: " + error.message(), folder);
  });
  const auto shard = static_cast<size_t>(hessian.shard());
  std::vector<double> z(shard), hz(shard);
  hessian.signed_product(1, hz);
  hessian.signs(1, z);
  for (size_t i = 0; i < shard; ++i) hz[i] *= z[i];
  dump_vector(folder + "/z.safetensors", z, plan, comm);
  dump_vector(folder + "/hessian_product.safetensors", hz, plan, comm);
  dump_vector(folder + "/gradient.safetensors", hessian.gradient(), plan, comm);
}

Json eigenvalues_json(const std::vector<Eigenvalue>& values,
                      const std::vector<std::string>& tensors) {
  Json out = Json::array();
  for (const Eigenvalue& e : values) {
    Json shares = Json::object();
    for (size_t t = 0; t < tensors.size(); ++t) shares[tensors[t]] = exact(e.shares[t]);
    out.push_back({{"value", exact(e.value)},
                   {"residual", exact(e.residual)},
                   {"converged", e.converged},
                   {"share_per_tensor", shares}});
  }
  return out;
}

Json json_of(const Measurement& m) {
  const HessianReport& r = m.report;
  Json means = Json::object(), errors = Json::object();
  for (size_t t = 0; t < r.tensors.size(); ++t) {
    means[r.tensors[t]] = exact(r.trace.per_tensor[t].mean);
    errors[r.tensors[t]] = exact(r.trace.per_tensor[t].standard_error);
  }
  Json eigenvalues = nullptr;
  if (!r.largest.empty()) {
    const double top = r.largest[0].value, bottom = r.smallest[0].value;
    eigenvalues = {{"largest", exact(top)},
                   {"smallest", exact(bottom)},
                   {"largest_magnitude", exact(std::abs(top) >= std::abs(bottom) ? top : bottom)},
                   {"largest_end", eigenvalues_json(r.largest, r.tensors)},
                   {"smallest_end", eigenvalues_json(r.smallest, r.tensors)},
                   {"products", m.spectrum.iterations},
                   {"converged", m.spectrum.end != LanczosEnd::kLimit},
                   {"asymmetry", exact(m.spectrum.asymmetry)}};
  }
  return {{"step", m.step},
          {"loss", exact(m.loss)},
          {"windows", m.windows},
          {"tokens", m.tokens},
          {"probes", r.probes},
          {"trace", exact(r.trace.whole.mean)},
          {"trace_standard_error", exact(r.trace.whole.standard_error)},
          {"trace_per_tensor", means},
          {"trace_per_tensor_standard_error", errors},
          {"eigenvalues", eigenvalues},
          {"memory", {{"arena", m.arena_bytes}, {"lanczos_vectors", m.vector_bytes}}}};
}

std::string largest_share(const Eigenvalue& e, const std::vector<std::string>& tensors) {
  const auto most = std::max_element(e.shares.begin(), e.shares.end()) - e.shares.begin();
  return fmt::format("{} {:.0f} %", tensors[static_cast<size_t>(most)],
                     100.0 * e.shares[static_cast<size_t>(most)]);
}

std::string text_of(const Measurement& m) {
  const HessianReport& r = m.report;
  TextTable traces({"trace by tensor", "", "standard error"});
  for (size_t t = 0; t < r.tensors.size(); ++t) {
    traces.add({r.tensors[t], fmt::format("{:.4g}", r.trace.per_tensor[t].mean),
                fmt::format("{:.2g}", r.trace.per_tensor[t].standard_error)});
  }
  traces.add({"all", fmt::format("{:.4g}", r.trace.whole.mean),
              fmt::format("{:.2g}", r.trace.whole.standard_error)});
  std::string text = traces.text();
  if (r.largest.empty()) return text;
  TextTable spectrum({"eigenvalues", "", "residual", "", "most of it in"});
  const auto rows = [&](const std::vector<Eigenvalue>& values, const char* end) {
    for (const Eigenvalue& e : values) {
      spectrum.add({end, fmt::format("{:.6g}", e.value), fmt::format("{:.1e}", e.residual),
                    e.converged ? "" : "not converged", largest_share(e, r.tensors)});
    }
  };
  rows(r.largest, "largest");
  rows(r.smallest, "smallest");
  return text + '\n' + spectrum.text() +
         fmt::format("\nloss {:.6f} on {} tokens; {} probes; {} products of Lanczos\n", m.loss,
                     count_text(m.tokens), r.probes, m.spectrum.iterations);
}

void write_svg(const std::string& path, const HessianReport& report) {
  AtomicFile file(path);
  const std::string svg = hessian_svg(report);
  file.write(0, std::as_bytes(std::span(svg)));
  file.commit();
}

}  // namespace

ExitCode hessian_verb(const HessianOptions& options, Job& job) {
  const SavedRun run = open_saved_run(options.run);
  job.connect_for_inference(run.config.communication());
  Communicator& comm = job.comm();
  Dataset data;
  TokenRange tokens;
  run_together(comm, [&] {
    check_options(options, comm.size());
    data = open_dataset(dataset_spec(run.config, job.speaks()));
    tokens = part_of(data, options, run);
  });
  check_agreement(comm, {{"checkpoint", run.checkpoint}, {"data", hash_hex(data.fingerprint)}});
  const GptSpec spec = spec_of(run, options, comm.size());
  const CompileSettings settings = settings_of(run, options, comm);
  run_together(comm, [&] {  // before anything is allocated
    const Plan plan = compile(Gpt2(spec), settings);
    refuse_over_machine(plan, lanczos_settings(options, plan), job.ranks_on_host());
  });
  const auto model = load_model(run, spec, settings, job);
  const Plan& plan = model->plan;
  Hessian hessian(*model->executor, {tokens, options.windows, spec.batch, spec.time},
                  static_cast<uint64_t>(options.seed));
  Measurement m;
  m.step = read_checkpoint_summary(run.checkpoint).info.step;
  m.windows = options.windows;
  m.tokens = options.windows * spec.time;
  m.arena_bytes = plan.arena_bytes;
  m.report.title = fmt::format("Curvature of {} after step {}", run.config.run().name(), m.step);
  m.report.subtitle = fmt::format("{} tokens of the {} part, {} probes, {}", count_text(m.tokens),
                                  options.data == "train" ? "training" : "validation",
                                  options.probes, name_of(spec.dtype));
  m.report.tensors = tensor_names(plan.units);
  m.report.probes = options.probes;
  if (!options.dump.empty()) dump(options.dump, plan, hessian, comm);
  measure_trace(options, plan, hessian, comm.rank(), m);
  measure_spectrum(lanczos_settings(options, plan), plan, hessian, comm.rank(), m);
  if (job.speaks()) fmt::print("{}\n", options.json ? json_of(m).dump() : text_of(m));
  const std::string picture = options.svg.empty() ? run.folder + "/hessian.svg" : options.svg;
  run_together(comm, [&] {
    if (job.speaks()) write_svg(picture, m.report);
  });
  if (job.speaks()) fmt::print(stderr, "memwall: wrote {}\n", picture);
  return ExitCode::kDone;
}

}  // namespace memwall
