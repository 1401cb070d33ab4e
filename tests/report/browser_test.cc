// The page in headless Chromium, 1280 and 400 pixels wide: every plot is drawn with data, nothing
// is wider than the page, and the console says nothing. Skipped where there is no Chromium, in CI
// too: its packages are larger than all others together.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/cli/memwall_process.h"
#include "tests/support/run_process.h"

namespace memwall::test {
namespace {

using Json = nlohmann::json;

std::string chromium() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
    if (run_process({"sh", "-c", std::string("command -v ") + name}).exit_code == 0) return name;
  }
  return "";
}

// Looks at the page from inside and tells the frame around it.
constexpr const char* kLook = R"js(<script>
addEventListener("load", () => setTimeout(() => {
  const plots = [...document.querySelectorAll("canvas")].map((canvas) => {
    const chart = Chart.getChart(canvas), box = canvas.getBoundingClientRect();
    const value = (v) => (v !== null && typeof v === "object" ? v.y : v);
    const numbers = chart ? chart.data.datasets.flatMap((d) => d.data.map(value)).filter(Number.isFinite) : [];
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return {title: canvas.getAttribute("aria-label").split(":")[0], numbers: numbers.length,
            drawn: pixels.some((p) => p !== 0), inside: box.left >= 0 && box.right <= innerWidth + 1};
  });
  const text = document.body.innerText;
  parent.postMessage({width: innerWidth, scroll: document.documentElement.scrollWidth, plots,
                      strange: (text.match(/\[object|undefined|\bNaN\b|Infinity/g) || []).join(" ")}, "*");
}, 300));
</script></body>)js";

constexpr const char* kFrames = R"html(<!doctype html><body><script>
const told = [];
addEventListener("message", (event) => {
  told.push(event.data);
  if (told.length === 2) {
    const out = document.createElement("pre");
    out.id = "told";
    out.textContent = "TOLD" + JSON.stringify(told) + "END";
    document.body.append(out);
  }
});
</script>
<iframe src="page.html" style="width:1280px;height:900px;border:0"></iframe>
<iframe src="page.html" style="width:400px;height:900px;border:0"></iframe></body>)html";

struct Seen {
  Json frames;
  std::string console;
};

// Opens `page`, once at each width.
Seen open(const Workplace& place, const std::string& browser, std::string page) {
  const size_t end = page.rfind("</body>");
  check(end != std::string::npos, "the page has no end");
  write_text(place.path("page.html"), page.replace(end, 7, kLook));
  write_text(place.path("frames.html"), kFrames);
  const ProcessResult result =
      run_process({"timeout", "60", browser, "--headless=new", "--no-sandbox", "--disable-gpu",
                   "--user-data-dir=" + place.path("profile").string(), "--enable-logging=stderr",
                   "--v=0", "--virtual-time-budget=4000", "--window-size=1400,1000",
                   "--no-first-run", "--dump-dom", "file://" + place.path("frames.html").string()});
  Seen seen;
  for (size_t at = 0, line_end; at < result.output.size(); at = line_end + 1) {
    line_end = std::min(result.output.find('\n', at), result.output.size());
    const std::string line = result.output.substr(at, line_end - at);
    if (line.find("CONSOLE") != std::string::npos) seen.console += line + '\n';
  }
  const size_t told = result.output.rfind("TOLD[");
  if (told == std::string::npos) return seen;
  seen.frames = Json::parse(result.output.substr(told + 4, result.output.rfind("END") - told - 4));
  return seen;
}

void expect_a_good_page(const Seen& seen, const std::vector<std::string>& titles) {
  EXPECT_EQ(seen.console, "");
  ASSERT_EQ(seen.frames.size(), 2u) << "the page did not come to its end";
  std::vector<int> widths;
  for (const Json& frame : seen.frames) {
    widths.push_back(frame["width"]);
    EXPECT_LE(frame["scroll"], frame["width"]);
    EXPECT_EQ(frame["strange"], "");
    std::string found;
    for (const Json& plot : frame["plots"]) {
      const std::string title = plot["title"];
      found += title + '\n';
      EXPECT_TRUE(plot["drawn"]) << title;
      EXPECT_TRUE(plot["inside"]) << title << " at " << frame["width"];
      EXPECT_GT(plot["numbers"], 0) << title;
    }
    for (const std::string& title : titles) {
      EXPECT_NE(found.find(title + '\n'), std::string::npos) << title << " is not in\n" << found;
    }
  }
  std::sort(widths.begin(), widths.end());
  EXPECT_EQ(widths, (std::vector<int>{400, 1280}));
}

class ReportInBrowser : public testing::Test {
 protected:
  void SetUp() override {
    browser_ = chromium();
    if (browser_.empty()) GTEST_SKIP() << "no Chromium";
    const Outcome run = place_.memwall({"train", "tiny.textproto", "--run-dir", "run"}, 2);
    ASSERT_EQ(run.exit_code, 0) << run.err;
  }
  Seen report(std::vector<std::string> words) {
    words.insert(words.begin(), "report");
    words.insert(words.end(), {"-o", "made.html"});
    const Outcome made = place_.memwall(words);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    return open(place_, browser_, file_text(place_.path("made.html")));
  }

  Workplace place_{"browser"};
  std::string browser_;
};

const std::vector<std::string> kPlanPlots = {
    "Planned live bytes by category, along the plan's steps",
    "Time of the step's work on each generation",
    "Rooflines",
    "The DRAM wall by year",
    "The link wall by year",
    "The capacity wall by year",
    "Trends of hardware"};
const std::vector<std::string> kRunPlots = {"Loss",
                                            "Gradient norm",
                                            "Learning rate",
                                            "Planned bytes at the peak, by category and rank",
                                            "Measured bytes over the run, by rank",
                                            "Bytes sent a step by rank 0",
                                            "Each step",
                                            "The parts of a step, by rank"};

TEST_F(ReportInBrowser, DrawsEveryPlotOfARun) {
  std::vector<std::string> titles = kPlanPlots;
  titles.insert(titles.end(), kRunPlots.begin(), kRunPlots.end());
  expect_a_good_page(report({"run"}), titles);
}

TEST_F(ReportInBrowser, DrawsScalingAndPrediction) {
  const Outcome one = place_.memwall(
      {"train", "tiny.textproto", "--run-dir", "one", "--set", "data.global_batch_size=2"});
  ASSERT_EQ(one.exit_code, 0) << one.err;
  fs::create_directories(place_.path("sweep"));
  fs::rename(place_.path("run"), place_.path("sweep/ranks-2"));
  fs::rename(place_.path("one"), place_.path("sweep/ranks-1"));
  write_text(place_.path("sweep/scale.json"),
             R"({"config": "c", "scaling": "weak", "launch": "local", "runs": [
    {"ranks": 1, "zero_stage": 0, "run": "ranks-1", "status": "done", "hosts": 1,
     "tokens_per_second": 10.0, "efficiency": 1.0, "step_seconds": 1.0,
     "traffic": {"planned": {"all_gather": {"wire_bytes": 0}},
                 "measured": {"all_gather": {"wire_bytes": 0}}}},
    {"ranks": 2, "zero_stage": 0, "run": "ranks-2", "status": "done", "hosts": 1,
     "tokens_per_second": 18.0, "efficiency": 0.9, "step_seconds": 1.1,
     "seconds": {"exposed_communication": 0.1},
     "traffic": {"planned": {"all_gather": {"wire_bytes": 8}},
                 "measured": {"all_gather": {"wire_bytes": 8}}}},
    {"ranks": 4, "zero_stage": 0, "run": "", "status": "failed", "error": "why"}]})");
  const std::string machine =
      std::string(MEMWALL_SOURCE_DIR) + "/configs/clusters/cpu-host.textproto";
  expect_a_good_page(report({"sweep", "--cluster", machine}),
                     {"Loss of all runs", "Tokens a second", "Efficiency", "Time of a step",
                      "Time of a step, predicted and measured", "Bytes sent a step", "Rooflines"});
}

TEST_F(ReportInBrowser, ShowsARunWithoutMetrics) {
  fs::remove_all(place_.path("run/metrics"));
  expect_a_good_page(report({"run"}), kPlanPlots);
}

TEST_F(ReportInBrowser, ShowsARunWithoutAPlan) {
  write_text(place_.path("run/config.textproto"), "model {");
  std::vector<std::string> titles = kRunPlots;
  titles.emplace_back("Trends of hardware");
  expect_a_good_page(report({"run"}), titles);
}

// What this test looks with, on a page that is wrong in all that it looks at.
TEST_F(ReportInBrowser, NoticesABadPage) {
  ASSERT_EQ(place_.memwall({"report", "run", "-o", "made.html"}).exit_code, 0);
  std::string page = file_text(place_.path("made.html"));
  page.insert(page.rfind("</body>"),
              "<canvas aria-label=\"empty: x\" style=\"width:3000px\"></canvas>"
              "<p>undefined</p><script>nothing.at.all();</script>");
  const Seen seen = open(place_, browser_, page);
  EXPECT_NE(seen.console.find("nothing is not defined"), std::string::npos) << seen.console;
  ASSERT_EQ(seen.frames.size(), 2u);
  for (const Json& frame : seen.frames) {
    EXPECT_GT(frame["scroll"], frame["width"]);
    EXPECT_EQ(frame["strange"], "undefined");
    const Json& plot = frame["plots"].back();
    EXPECT_FALSE(plot["drawn"]);
    EXPECT_FALSE(plot["inside"]);
    EXPECT_EQ(plot["numbers"], 0);
  }
}

}  // namespace
}  // namespace memwall::test
