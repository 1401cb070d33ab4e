// The plan of a sweep's runs, what is collected of a run's folder, and what an interrupted sweep
// keeps. Folders are written by hand, and their figures counted by hand.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>

#include "runtime/cli/cores.h"
#include "runtime/cli/scale_figures.h"
#include "runtime/cli/scale_launch.h"
#include "runtime/cli/scale_record.h"
#include "runtime/cli/scale_svg.h"
#include "runtime/cli/scale_sweep.h"
#include "runtime/config/config.h"
#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

class Scale : public testing::Test {
 protected:
  Scale() {
    ::setenv("OMP_NUM_THREADS", "1", 1);
    config_ = folder.write("c.textproto", fmt::format(R"(model {{ num_layers: 1 hidden_size: 16
        num_heads: 2 context_length: 16 vocab_size: 256 }}
data {{ text: "{}" micro_batch_size: 4 }}
parallel {{ zero_stage: 1 }}
run {{ steps: 900 eval_every: 100 peak_flops: 1e9 }}
)",
                                                      folder.write("t.txt", "abc")));
  }
  ScaleOptions options(const std::string& ranks) const {
    ScaleOptions out;
    out.config.path = config_;
    out.ranks = ranks;
    out.folder = folder.at("sweep");
    out.steps = 5;
    return out;
  }
  config::Config config_of(const ScaleRun& run) const {
    return load_config(config_, run.sets).config;
  }

  // A folder of `run` whose step i takes 1 s, and 2 s on the last rank; of 5 steps the first two
  // are warm-up, and slow.
  void write_run(const Sweep& sweep, const ScaleRun& run, int64_t steps = 5,
                 double step_seconds = 2.0) const {
    const std::string at = sweep.folder + '/' + run.folder;
    fs::create_directories(at + "/metrics");
    const std::string below = "sweep/" + run.folder + '/';
    folder.write(below + "config.textproto", run.config_text);
    folder.write(below + "plan.txt", "plan        run, 0123456789abcdef\ntransport   MPI\n\n");
    std::string hosts;
    for (int64_t rank = 0; rank < run.ranks; ++rank) {
      hosts += fmt::format("{}\"host{} cores=4 threads=2\"", rank > 0 ? "," : "",
                           rank / run.placement.ranks_a_host);
      std::string lines;
      for (int64_t step = 1; step <= steps; ++step) lines += line(run, rank, step, step_seconds);
      folder.write(fmt::format("{}metrics/rank-{:05}.jsonl", below, rank), lines);
    }
    folder.write(below + "environment.json",
                 fmt::format(R"({{"ranks": {}, "hosts": [{}]}})", run.ranks, hosts));
  }
  static std::string line(const ScaleRun& run, int64_t rank, int64_t step, double step_seconds) {
    const bool last = rank + 1 == run.ranks;
    const double slow = step <= 2 ? 50.0 : 1.0;
    const int64_t sent = run.ranks > 1 ? 1000 + rank : 0;
    const auto traffic = [&](int64_t bytes) {
      return fmt::format(
          R"("traffic":{{"all_gather":{{"calls":2,"payload_bytes":4000,"wire_bytes":{}}},)"
          R"("all_reduce":{{"calls":1,"payload_bytes":24,"wire_bytes":24}}}})",
          bytes);
    };
    return fmt::format(
        R"({{"step":{},"loss":{},"step_seconds":{},"planned":{{"memory":{{"peak":{}}},{}}},)"
        R"("measured":{{"memory":{{"peak":{}}},{},"seconds":{{"total":9,"compute":{},)"
        R"("communication":{}}}}}}})"
        "\n",
        step, 6.0 - static_cast<double>(step), slow * (last ? step_seconds : 1.0),
        4096 * (rank + 1), traffic(sent), 8192 * (rank + 1), traffic(sent + 5), last ? 1.5 : 0.5,
        0.25);
  }

  const TemporaryFolder folder;
  std::string config_;
  std::vector<std::string> said_;
  std::function<void(const std::string&)> say_ = [this](const std::string& l) {
    said_.push_back(l);
  };
};

TEST_F(Scale, WeakKeepsWhatARankDoes) {
  const Sweep sweep = plan_sweep(options("1,2,8"));
  ASSERT_EQ(sweep.runs.size(), 3u);
  EXPECT_EQ(sweep.sequences, 4);
  for (const ScaleRun& run : sweep.runs) {
    const config::Config config = config_of(run);
    EXPECT_EQ(config.data().global_batch_size(), 4 * run.ranks);
    EXPECT_EQ(config.data().micro_batch_size(), 4);
    EXPECT_EQ(config.run().steps(), 5);
    EXPECT_EQ(config.run().eval_every(), 0);
    EXPECT_EQ(run.zero_stage, 1);  // CONFIG's
    EXPECT_EQ(run.tokens, 4 * run.ranks * 16);
    EXPECT_EQ(run.placement, (HostPlacement{1, run.ranks}));
  }
}

TEST_F(Scale, StrongKeepsTheGlobalBatch) {
  ScaleOptions o = options("1,2,8");
  o.strong = true;
  o.stages = "0,3";
  o.config.overrides = {"data.global_batch_size=24"};
  const Sweep sweep = plan_sweep(o);
  ASSERT_EQ(sweep.runs.size(), 6u);
  const int64_t micro[] = {4, 4, 3};  // the largest of at most 4 that divides 24, 12, 3
  for (size_t i = 0; i < 6; ++i) {
    const config::Config config = config_of(sweep.runs[i]);
    EXPECT_EQ(config.data().global_batch_size(), 24);
    EXPECT_EQ(config.data().micro_batch_size(), micro[i % 3]);
    EXPECT_EQ(config.parallel().zero_stage(), i < 3 ? 0 : 3);
  }
  o.ranks = "1,5";
  expect_input_error([&] { plan_sweep(o); }, {"--ranks", "24 sequences", "5 ranks"});
}

TEST_F(Scale, RefusesWhatContradictsItself) {
  const auto refused = [&](auto change, std::initializer_list<std::string> parts) {
    ScaleOptions o = options("1,2");
    change(o);
    expect_input_error([&] { plan_sweep(o); }, parts);
  };
  refused([](ScaleOptions& o) { o.weak = o.strong = true; }, {"--weak, --strong"});
  refused([](ScaleOptions& o) { o.local = o.slurm = true; }, {"--local", "exclude"});
  refused([](ScaleOptions& o) { o.hosts = "a", o.link = "1gbit"; }, {"--hosts", "exclude"});
  refused([](ScaleOptions& o) { o.link = "fast"; }, {"--link", "fast"});
  refused([](ScaleOptions& o) { o.ranks_per_host = 2; }, {"--ranks-per-host", "--link"});
  refused([](ScaleOptions& o) { o.link = "1gbit", o.ranks_per_host = 2; }, {"--ranks", "1 ranks"});
  refused([](ScaleOptions& o) { o.ranks = "2,1"; }, {"--ranks", "ascend"});
  refused([](ScaleOptions& o) { o.stages = "0,4"; }, {"--stages", "0,4"});
  refused([](ScaleOptions& o) { o.stages = "1,1"; }, {"--stages", "each once"});
  refused([](ScaleOptions& o) { o.stages = "1,"; }, {"--stages"});
  refused([](ScaleOptions& o) { o.config.overrides = {"run.steps=3"}; }, {"run.steps", "--steps"});
  refused([](ScaleOptions& o) { o.stages = "0", o.config.overrides = {"parallel.zero_stage=1"}; },
          {"--stages"});
  refused([](ScaleOptions& o) { o.config.overrides = {"model.num_heads=3"}; }, {"num_heads"});
  refused([](ScaleOptions& o) { o.ranks = "3", o.hosts = "a,b"; }, {"3 ranks", "2 hosts"});
}

TEST_F(Scale, StartsEachRunByMpirun) {
  ScaleOptions o = options("2,4");
  const auto line = [](const Sweep& sweep, size_t run) {
    return fmt::format(
        "{}",
        fmt::join(train_command(sweep, sweep.runs[run], "/b/memwall", 4, nullptr).words, " "));
  };
  const Sweep local = plan_sweep(o);
  EXPECT_TRUE(line(local, 1).starts_with(
      "mpirun --bind-to none --oversubscribe --host localhost:4 -x OMP_NUM_THREADS -np 4 "
      "/b/memwall train " +
      config_ + " --run-dir " + folder.at("sweep/ranks-4-stage-1") + " --set "))
      << line(local, 1);
  o.hosts = "a,b";
  const Sweep hosts = plan_sweep(o);
  EXPECT_TRUE(line(hosts, 1).starts_with(
      "mpirun --bind-to none --host a:2,b:2 -x OMP_NUM_THREADS -np 4 /b/memwall"))
      << line(hosts, 1);
  ::setenv("OMP_NUM_THREADS", "3", 1);
  o.hosts = "";
  const Command command = train_command(plan_sweep(o), local.runs[0], "memwall", 4, nullptr);
  const std::string words = fmt::format("{}", fmt::join(command.words, " "));
  EXPECT_NE(words.find("--mca mpi_yield_when_idle 1 -x OMP_NUM_THREADS -np 2"), std::string::npos);
  EXPECT_EQ(command.environment.at(0), "OMP_NUM_THREADS=3");
}

TEST_F(Scale, GivesRanksTheSameThreadsAtEveryCount) {
  ScaleOptions o = options("1,2,4");
  ::unsetenv("OMP_NUM_THREADS");
  const auto cores = static_cast<int64_t>(allowed_cores().size());
  EXPECT_EQ(plan_sweep(o).threads, std::max<int64_t>(1, cores / 4));
  o.hosts = "a,b,c,d";
  EXPECT_EQ(plan_sweep(o).threads, 0);  // the hosts are not this one
}

TEST_F(Scale, CollectsMediansAfterTheWarmUp) {
  const Sweep sweep = plan_sweep(options("2"));
  write_run(sweep, sweep.runs[0]);
  const ScaleFigures figures = collect(sweep, sweep.runs[0]);
  EXPECT_EQ(sweep.warm_up_steps, 2);
  EXPECT_EQ(figures.step_seconds, 2.0);  // the slower rank's
  EXPECT_EQ(figures.tokens_per_second, 2 * 4 * 16 / 2.0);
  EXPECT_EQ(figures.part("compute"), 1.0);  // the mean of 0.5 and 1.5
  EXPECT_EQ(figures.part("communication"), 0.25);
  EXPECT_EQ(figures.part("total"), std::nullopt);
  EXPECT_EQ(figures.planned_wire, 1000 + 24);  // rank 0's
  EXPECT_EQ(figures.measured_wire, 1005 + 24);
  EXPECT_EQ(figures.bus_bandwidth(), (1005 + 24) / 0.25);
  EXPECT_EQ(figures.planned_peak, 8192);  // rank 1's
  EXPECT_EQ(figures.measured_peak, 16384);
  EXPECT_EQ(figures.loss, 1.0);
  EXPECT_EQ(figures.threads, 2);
  EXPECT_FALSE(figures.oversubscribed);  // 2 x 2 threads on 4 cores
  EXPECT_EQ(figures.planned_traffic["all_gather"]["payload_bytes"], 4000);
}

TEST_F(Scale, RefusesAFolderThatIsNotTheRun) {
  const Sweep sweep = plan_sweep(options("2"));
  const ScaleRun& run = sweep.runs[0];
  const auto refused = [&](std::initializer_list<std::string> parts) {
    expect_input_error([&] { collect(sweep, run); }, parts);
  };
  refused({"no such run folder"});
  write_run(sweep, run, 4);
  refused({"4 of 5 steps"});
  write_run(sweep, run);
  fs::remove(folder.at("sweep/ranks-2-stage-1/metrics/rank-00001.jsonl"));
  refused({"rank-00001.jsonl", "missing"});
  write_run(sweep, run);
  folder.write("sweep/ranks-2-stage-1/environment.json",
               R"({"ranks": 2, "hosts": ["a cores=1 threads=1", "b cores=1 threads=1"]})");
  refused({"on 2 host(s)", "on 1, 2 on each"});
  write_run(sweep, run);
  folder.write("sweep/ranks-2-stage-1/config.textproto", run.config_text + "\nrun { seed: 2 }\n");
  refused({"another configuration"});
}

TEST_F(Scale, ResumesWhatIsDoneAndMovesTheRestAside) {
  const Sweep sweep = plan_sweep(options("1,2,4"));
  fs::create_directories(sweep.folder);
  EXPECT_EQ(resume(sweep, say_).outcomes.size(), 3u);
  EXPECT_TRUE(said_.empty());
  write_run(sweep, sweep.runs[0], 5, 1.0);
  write_run(sweep, sweep.runs[1], 3);
  const ScaleReport report = resume(sweep, say_);
  EXPECT_EQ(report.outcomes[0].status, ScaleOutcome::Status::kDone);
  EXPECT_EQ(report.outcomes[1].status, ScaleOutcome::Status::kMissing);
  EXPECT_EQ(report.outcomes[2].status, ScaleOutcome::Status::kMissing);
  ASSERT_EQ(said_.size(), 2u);
  EXPECT_NE(said_[1].find("ranks-2-stage-1.unfinished-1"), std::string::npos) << said_[1];
  EXPECT_NE(said_[1].find("3 of 5 steps"), std::string::npos) << said_[1];
  EXPECT_FALSE(fs::exists(folder.at("sweep/ranks-2-stage-1")));
  EXPECT_TRUE(fs::exists(folder.at("sweep/ranks-2-stage-1.unfinished-1/metrics")));
  fs::create_directories(folder.at("sweep/ranks-2-stage-1"));  // died before its first file
  resume(sweep, say_);
  EXPECT_TRUE(fs::exists(folder.at("sweep/ranks-2-stage-1.unfinished-2")));
}

TEST_F(Scale, RefusesAnotherSweepInItsFolder) {
  const Sweep sweep = plan_sweep(options("1,2"));
  write_run(sweep, sweep.runs[0]);
  write_scale_json(resume(sweep, say_));
  const auto refused = [&](auto change, const std::string& part) {
    ScaleOptions o = options("1,2");
    change(o);
    expect_input_error([&] { resume(plan_sweep(o), say_); },
                       {folder.at("sweep"), part, "--folder"});
  };
  refused([](ScaleOptions& o) { o.config.overrides = {"run.seed=7"}; }, "another CONFIG");
  refused([](ScaleOptions& o) { o.strong = true; }, "scaling \"weak\"");
  refused([](ScaleOptions& o) { o.steps = 6; }, "steps 5");
  refused([](ScaleOptions& o) { o.link = "1gbit"; }, "launch \"local\"");
  ScaleOptions more = options("1,2,4");  // a longer list, and a stage more
  more.stages = "1,2";
  EXPECT_EQ(resume(plan_sweep(more), say_).outcomes[0].status, ScaleOutcome::Status::kDone);
  folder.write("sweep/scale.json", "{\"runs\": [");
  expect_input_error([&] { resume(sweep, say_); }, {"scale.json", "no record", "remove it"});
  fs::remove(folder.at("sweep/scale.json"));
  ScaleOptions other = options("1,2");
  other.config.overrides = {"run.seed=7"};
  expect_input_error([&] { resume(plan_sweep(other), say_); }, {"ranks-1-stage-1", "another conf"});
}

TEST_F(Scale, WritesWhatReportsRead) {
  const Sweep sweep = plan_sweep(options("1,2,4"));
  write_run(sweep, sweep.runs[0], 5, 1.0);
  write_run(sweep, sweep.runs[1], 5, 1.25);
  ScaleReport report = resume(sweep, say_);
  report.outcomes[1].figures->prediction = ScalePrediction{1.5, 0.5, 0.2};
  report.outcomes[1].link_bytes = 777;
  report.outcomes[2].status = ScaleOutcome::Status::kFailed;
  report.outcomes[2].error = "why";
  write_scale_json(report);
  const auto json = nlohmann::json::parse(contents_of(folder.at("sweep/scale.json")));
  EXPECT_EQ(json["config"], config_);
  EXPECT_EQ(json["scaling"], "weak");
  EXPECT_EQ(json["launch"], "local");
  EXPECT_TRUE(json["link"].is_null());
  EXPECT_EQ(json["warm_up_steps"], 2);
  ASSERT_EQ(json["runs"].size(), 3u);
  const auto& one = json["runs"][0];
  EXPECT_EQ(one["status"], "done");
  EXPECT_EQ(one["efficiency"], 1.0);
  EXPECT_TRUE(one["predicted"].is_null() && one["prediction_error"].is_null());
  const auto& two = json["runs"][1];
  EXPECT_EQ(two["ranks"], 2);
  EXPECT_EQ(two["hosts"], 1);
  EXPECT_EQ(two["zero_stage"], 1);
  EXPECT_EQ(two["run"], "ranks-2-stage-1");
  EXPECT_EQ(two["step_seconds"], 1.25);
  EXPECT_EQ(two["efficiency"], 0.8);  // 1 s against 1.25 s
  EXPECT_EQ(two["seconds"]["compute"], 1.0);
  EXPECT_EQ(two["traffic"]["measured"]["all_gather"]["wire_bytes"], 1005);
  EXPECT_EQ(two["predicted"]["exposed_communication"], 0.5);
  EXPECT_EQ(two["prediction_error"], 0.2);
  EXPECT_EQ(json["runs"][2]["status"], "failed");
  EXPECT_EQ(json["runs"][2]["error"], "why");
  EXPECT_EQ(resume(sweep, say_).outcomes[1].link_bytes, 777);  // only the record knows
}

TEST_F(Scale, DrawsEveryRunThatIsDone) {
  ScaleOptions o = options("1,2");
  o.stages = "0,3";
  const Sweep sweep = plan_sweep(o);
  for (size_t i : {0, 1, 2}) write_run(sweep, sweep.runs[i], 5, i == 1 ? 2.0 : 1.0);
  const std::string svg = scale_svg(resume(sweep, say_));
  const auto count = [&](const std::string& text) {
    const std::regex pattern(text);
    return std::distance(std::sregex_iterator(svg.begin(), svg.end(), pattern),
                         std::sregex_iterator());
  };
  EXPECT_EQ(count("<circle class=\"dot s0\""), 4);  // two runs in two plots
  EXPECT_EQ(count("<circle class=\"dot s3\""), 2);
  EXPECT_EQ(count("<path class=\"ideal s"), 2);
  EXPECT_EQ(count(">2 ranks, stage 0<"), 1);
  EXPECT_EQ(count(">2 ranks, stage 3<"), 0);
  // A bar of 2 s is as wide as the plot, 610; half of it is compute. The runs of one rank take 1 s,
  // and are written to have computed longer: their bars end with the step.
  EXPECT_EQ(count("<rect class=\"compute\" x=\"150.00\" y=\"[0-9.]+\" width=\"305.00\""), 3);
  EXPECT_EQ(count("<rect class=\"other\" x=\"455.00\" y=\"[0-9.]+\" width=\"305.00\""), 1);
  EXPECT_EQ(count("<rect class=\"other\" x="), 1 + 1);  // and the legend's
  EXPECT_EQ(count("nan|inf"), 0);
}

}  // namespace
}  // namespace memwall
