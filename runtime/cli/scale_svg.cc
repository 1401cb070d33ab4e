#include "runtime/cli/scale_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "runtime/cli/machine.h"
#include "runtime/cli/svg.h"
#include "runtime/cli/tables.h"

namespace memwall {
namespace {

// Pixels.
constexpr double kLeft = 150, kRight = 760, kPlotHeight = 200, kBar = 13, kRow = 21;

constexpr std::string_view kStyle = R"(  .curve { fill: none; stroke-width: 2; }
  .ideal { fill: none; stroke-width: 1; stroke-dasharray: 4 4; }
  .s0 { stroke: #4c8dd6; } .s1 { stroke: #dd7a3a; } .s2 { stroke: #3d9a5f; } .s3 { stroke: #a865c9; }
  .dot.s0 { fill: #4c8dd6; } .dot.s1 { fill: #dd7a3a; } .dot.s2 { fill: #3d9a5f; } .dot.s3 { fill: #a865c9; }
  .compute { fill: #4c8dd6; } .exposed_communication { fill: #d1495b; } .wait { fill: #e9b44c; }
  .input { fill: #3d9a5f; } .update { fill: #7a6fd0; } .progress { fill: #dd7a3a; } .other { fill: #9aa4af; }
  .predicted { stroke: #1f2328; stroke-width: 2; }
  @media (prefers-color-scheme: dark) { .predicted { stroke: #e6edf3; } }
)";

// Parts of a step, in the order in which they stack; the name that the metrics have and a text.
constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kParts = {
    {{"compute", "compute"},
     {"update", "update"},
     {"input", "input"},
     {"progress", "progress"},
     {"exposed_communication", "exposed communication"},
     {"wait", "wait for ranks"}}};

struct Point {
  int64_t ranks = 0;
  double value = 0.0;
};
struct Curve {
  int64_t stage = 0;
  std::vector<Point> points, ideal;  // the latter may be empty
};

// Rank counts stand equally far apart.
class RankAxis {
 public:
  explicit RankAxis(const ScaleReport& report) {
    for (const ScaleOutcome& o : report.outcomes) counts_.insert(o.run.ranks);
  }
  const std::set<int64_t>& counts() const { return counts_; }
  double at(int64_t ranks) const {
    const auto index = static_cast<double>(std::distance(counts_.begin(), counts_.find(ranks)));
    const double width = kRight - kLeft - 60;
    const auto gaps = static_cast<double>(counts_.size() - 1);
    return kLeft + 30 + (gaps > 0 ? width * index / gaps : width / 2);
  }

 private:
  std::set<int64_t> counts_;
};

std::vector<Curve> curves_of(const ScaleReport& report,
                             const std::function<double(const ScaleOutcome&)>& value,
                             bool with_ideal) {
  std::vector<Curve> out;
  for (const ScaleOutcome& o : report.outcomes) {
    if (!o.figures) continue;
    const auto same = [&](const Curve& c) { return c.stage == o.run.zero_stage; };
    auto curve = std::find_if(out.begin(), out.end(), same);
    if (curve == out.end()) curve = out.insert(out.end(), {o.run.zero_stage, {}, {}});
    curve->points.push_back({o.run.ranks, value(o)});
    if (!with_ideal) continue;
    const Point base = curve->points[0];
    const double a_rank = base.value / static_cast<double>(base.ranks);
    curve->ideal.push_back({o.run.ranks, a_rank * static_cast<double>(o.run.ranks)});
  }
  return out;
}

void draw_points(SvgPicture& picture, const RankAxis& axis, const std::vector<Point>& points,
                 const std::string& kind, const std::function<double(double)>& y_of, bool dots) {
  std::string path;
  for (const Point& p : points) {
    path +=
        fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", axis.at(p.ranks), y_of(p.value));
  }
  picture.raw(fmt::format("<path class=\"{}\" d=\"{}\"/>\n", kind, path));
  if (!dots) return;
  const std::string dot = "dot" + kind.substr(kind.find(' '));
  for (const Point& p : points) {
    picture.raw(fmt::format(
        R"(<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{} ranks: {:.4g}</title></circle>)"
        "\n",
        dot, axis.at(p.ranks), y_of(p.value), p.ranks, p.value));
  }
}

void draw_curves(SvgPicture& picture, const RankAxis& axis, const std::vector<Curve>& curves,
                 double least_top) {
  double most = least_top;
  for (const Curve& curve : curves) {
    for (const auto* points : {&curve.points, &curve.ideal}) {
      for (const Point& p : *points) most = std::max(most, p.value);
    }
  }
  if (most <= 0.0) most = 1.0;
  const double top = picture.y + 6, bottom = top + kPlotHeight;
  const auto y_of = [&](double value) { return bottom - value / most * kPlotHeight; };
  for (double tick : round_ticks(0.0, most)) {
    picture.line(tick == 0.0 ? "zero" : "grid", kLeft, y_of(tick), kRight, y_of(tick));
    picture.text(kLeft - 8, y_of(tick) + 4, "small", amount_text(tick), "end");
  }
  for (int64_t ranks : axis.counts()) {
    picture.text(axis.at(ranks), bottom + 16, "small", std::to_string(ranks), "middle");
  }
  picture.text(kRight + 14, bottom + 16, "small", "ranks");
  double legend = top + 10;
  for (const Curve& curve : curves) {
    const std::string color = fmt::format(" s{}", curve.stage);
    if (!curve.ideal.empty()) draw_points(picture, axis, curve.ideal, "ideal" + color, y_of, false);
    draw_points(picture, axis, curve.points, "curve" + color, y_of, true);
    picture.line("curve" + color, kRight + 14, legend - 4, kRight + 34, legend - 4);
    picture.text(kRight + 40, legend, "label", fmt::format("stage {}", curve.stage));
    legend += SvgPicture::kLine;
  }
  picture.y = bottom + 20;
}

void draw_legend(SvgPicture& picture, bool predicted) {
  double x = kLeft;
  const auto add = [&](std::string_view kind, std::string_view text) {
    picture.rect(kind, x, picture.y, 10, 10);
    picture.text(x + 15, picture.y + 9, "small", text);
    x += 28 + 6.7 * static_cast<double>(text.size());
  };
  for (const auto& [name, text] : kParts) add(name, text);
  add("other", "other");
  if (predicted) {
    picture.line("predicted", x + 5, picture.y - 1, x + 5, picture.y + 11);
    picture.text(x + 15, picture.y + 9, "small", "predicted");
  }
  picture.y += SvgPicture::kLine + 4;
}

void draw_split(SvgPicture& picture, const ScaleOutcome& outcome, double seconds_across) {
  const ScaleFigures& f = *outcome.figures;
  const double scale = (kRight - kLeft) / seconds_across, bar = picture.y + (kRow - kBar) / 2;
  const std::string label = fmt::format("{} rank{}, stage {}", outcome.run.ranks,
                                        outcome.run.ranks == 1 ? "" : "s", outcome.run.zero_stage);
  picture.raw(fmt::format("<g><title>{}: {}</title>\n", label, seconds_text(f.step_seconds)));
  picture.text(kLeft - 8, bar + 11, "label", label, "end");
  double at = 0.0;
  for (const auto& [name, text] : kParts) {
    // Parts are means over the ranks: they may end after the median step.
    const double part = std::min(f.part(name).value_or(0.0), f.step_seconds - at);
    if (part <= 0.0) continue;
    picture.rect(name, kLeft + at * scale, bar, part * scale, kBar);
    at += part;
  }
  if (at < f.step_seconds) {
    picture.rect("other", kLeft + at * scale, bar, (f.step_seconds - at) * scale, kBar);
  }
  if (f.prediction) {
    const double x = kLeft + f.prediction->step_seconds * scale;
    picture.line("predicted", x, bar - 3, x, bar + kBar + 3);
  }
  std::string number = seconds_text(f.step_seconds);
  if (f.prediction) number += fmt::format(", {:+.1f} %", 100.0 * f.prediction->error);
  picture.text(kRight + 14, bar + 11, "number", number);
  picture.raw("</g>\n");
  picture.y += kRow;
}

void draw_splits(SvgPicture& picture, const ScaleReport& report) {
  double most = 0.0;
  bool predicted = false;
  for (const ScaleOutcome& o : report.outcomes) {
    if (!o.figures) continue;
    most = std::max(most, o.figures->step_seconds);
    predicted = predicted || o.figures->prediction;
    if (o.figures->prediction) most = std::max(most, o.figures->prediction->step_seconds);
  }
  picture.heading("Where a step's time goes",
                  predicted ? "Seconds, and how far the prediction is from them."
                            : "Seconds of a step: medians, means over the ranks.");
  draw_legend(picture, predicted);
  for (const ScaleOutcome& o : report.outcomes) {
    if (o.figures) draw_split(picture, o, most);
  }
}

}  // namespace

std::string scale_svg(const ScaleReport& report) {
  const Sweep& sweep = report.sweep;
  const bool weak = sweep.scaling == Scaling::kWeak;
  SvgPicture picture;
  const RankAxis axis(report);
  picture.heading("Tokens a second",
                  "Of all ranks. Dashed: the smallest rank count times the ranks.");
  const auto rate = [](const ScaleOutcome& o) { return o.figures->tokens_per_second; };
  draw_curves(picture, axis, curves_of(report, rate, true), 0.0);
  picture.heading("Efficiency", weak ? "Tokens a second and rank, against the smallest rank count."
                                     : "Speed-up over the ratio of ranks.");
  const auto share = [&](const ScaleOutcome& o) { return *efficiency(report, o); };
  draw_curves(picture, axis, curves_of(report, share, false), 1.0);
  draw_splits(picture, report);
  return picture.file(fmt::format("{} scaling of {}", weak ? "Weak" : "Strong", sweep.config),
                      fmt::format("{} sequences a step {}, {}{}{}", sweep.sequences,
                                  weak ? "and rank" : "over all ranks", name_of(sweep.launch),
                                  sweep.link.empty() ? "" : ", links of ", sweep.link),
                      kStyle);
}

}  // namespace memwall
