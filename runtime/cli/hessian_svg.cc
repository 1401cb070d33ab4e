#include "runtime/cli/hessian_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <string_view>

#include "runtime/base/error.h"

namespace memwall {
namespace {

// Pixels.
constexpr double kWidth = 960, kMargin = 24;
constexpr double kBarsLeft = 240, kBarsRight = 750;  // labels stand left of it, numbers right
constexpr double kLine = 17, kBar = 10;              // height of a row, of a bar in it
constexpr double kHeading = 34;

constexpr std::string_view kStyle = R"(<style>
  text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; }
  .title { font: bold 18px system-ui, Helvetica, Arial, sans-serif; }
  .heading { font: bold 14px system-ui, Helvetica, Arial, sans-serif; }
  .plain { font: 13px system-ui, Helvetica, Arial, sans-serif; }
  .small { font-size: 11px; fill: #59636e; stroke: #ffffff; stroke-width: 3; paint-order: stroke; }
  .background { fill: #ffffff; }
  .grid { stroke: #d8dee4; }
  .zero { stroke: #59636e; }
  .error { stroke: #1f2328; stroke-width: 1.2; fill: none; }
  .positive { fill: #4c8dd6; stroke: #4c8dd6; }
  .negative { fill: #dd7a3a; stroke: #dd7a3a; }
  .open { fill-opacity: 0.15; stroke-dasharray: 3 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; stroke: #0d1117; }
    .background { fill: #0d1117; }
    .grid { stroke: #2a313a; }
    .zero { stroke: #9198a1; }
    .error { stroke: #e6edf3; }
  }
</style>
)";

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

struct Bar {
  std::string label, number;
  std::string note;  // on a line of its own; may be empty
  double value = 0.0;
  double error = 0.0;      // half the length of the error bar; NaN: none
  bool is_certain = true;  // else drawn open
};

// Numbers to pixels, from zero or below to zero or above.
class Axis {
 public:
  explicit Axis(std::span<const Bar> bars) {
    for (const Bar& bar : bars) {
      const double error = std::isfinite(bar.error) ? bar.error : 0.0;
      if (!std::isfinite(bar.value)) continue;
      low_ = std::min(low_, bar.value - error);
      high_ = std::max(high_, bar.value + error);
    }
    if (low_ == high_) high_ = 1.0;
  }

  double at(double value) const {
    return kBarsLeft + (value - low_) / (high_ - low_) * (kBarsRight - kBarsLeft);
  }
  // About five round numbers.
  std::vector<double> ticks() const {
    const double least = (high_ - low_) / 6.0,
                 power = std::pow(10.0, std::floor(std::log10(least)));
    double step = 10.0 * power;
    for (double factor : {5.0, 2.0}) {
      if (factor * power >= least) step = factor * power;
    }
    std::vector<double> out;
    const auto last = static_cast<int64_t>(std::floor(high_ / step));
    for (auto k = static_cast<int64_t>(std::ceil(low_ / step)); k <= last; ++k) {
      out.push_back(static_cast<double>(k) * step);
    }
    return out;
  }

 private:
  double low_ = 0.0, high_ = 0.0;
};

class Picture {
 public:
  void text(double x, double y, std::string_view kind, std::string_view what,
            std::string_view anchor = "start") {
    body_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>)"
                         "\n",
                         x, y, kind, anchor, escaped(what));
  }

  // A heading over rows of bars on one axis, from `y_` downwards.
  void chart(std::string_view heading, std::string_view remark, std::span<const Bar> bars) {
    y_ += kHeading;
    text(kMargin, y_, "heading", heading);
    y_ += kLine + 2;
    text(kMargin, y_, "plain", remark);
    y_ += kLine;
    const Axis axis(bars);
    const double top = y_ + 6;
    double bottom = top;
    for (const Bar& bar : bars) bottom += height_of(bar);
    grid(axis, top, bottom);
    y_ = top;
    for (const Bar& bar : bars) row(axis, bar);
    y_ = bottom + kLine;
  }

  std::string file(std::string_view title, std::string_view subtitle) const {
    const double height = y_ + kMargin;
    std::string out =
        fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" )"
                    R"(viewBox="0 0 {0:.0f} {1:.0f}" role="img">)"
                    "\n<title>{2}</title>\n",
                    kWidth, height, escaped(title));
    out += kStyle;
    out += R"(<rect class="background" width="100%" height="100%"/>)"
           "\n";
    Picture head;
    head.text(kMargin, 36, "title", title);
    head.text(kMargin, 56, "plain", subtitle);
    return out + head.body_ + body_ + "</svg>\n";
  }

 private:
  static double height_of(const Bar& bar) { return bar.note.empty() ? kLine : 2 * kLine; }

  void line(std::string_view kind, double x, double top, double bottom) {
    body_ +=
        fmt::format(R"(<line class="{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{3:.1f}"/>)"
                    "\n",
                    kind, x, top, bottom);
  }

  void grid(const Axis& axis, double top, double bottom) {
    for (double tick : axis.ticks()) {
      line(tick == 0.0 ? "zero" : "grid", axis.at(tick), top, bottom);
      text(axis.at(tick), bottom + 12, "small", fmt::format("{:.4g}", tick), "middle");
    }
  }

  void row(const Axis& axis, const Bar& bar) {
    const double middle = y_ + kLine / 2, base = middle + 4;
    body_ += fmt::format("<g><title>{} {}</title>\n", escaped(bar.label), escaped(bar.number));
    text(kBarsLeft - 10, base, "label", bar.label, "end");
    if (std::isfinite(bar.value)) {
      const double from = axis.at(std::min(bar.value, 0.0)), to = axis.at(std::max(bar.value, 0.0));
      body_ +=
          fmt::format(R"(<rect class="{}{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.0f}"/>)"
                      "\n",
                      bar.value < 0.0 ? "negative" : "positive", bar.is_certain ? "" : " open",
                      from, middle - kBar / 2, to - from, kBar);
      if (std::isfinite(bar.error)) error_bar(axis, bar, middle);
    }
    text(kBarsRight + 12, base, "number", bar.number);
    if (!bar.note.empty()) text(kBarsLeft + 4, base + kLine - 2, "small", bar.note);
    body_ += "</g>\n";
    y_ += height_of(bar);
  }

  void error_bar(const Axis& axis, const Bar& bar, double middle) {
    const double low = axis.at(bar.value - bar.error), high = axis.at(bar.value + bar.error);
    if (high - low < 1.0) return;  // less than a pixel
    body_ += fmt::format(
        R"(<path class="error" d="M{0:.2f} {2:.1f}V{3:.1f}M{0:.2f} {4:.1f}H{1:.2f}M{1:.2f} )"
        R"({2:.1f}V{3:.1f}"/>)"
        "\n",
        low, high, middle - 3, middle + 3, middle);
  }

  double y_ = 56;
  std::string body_;
};

// Two digits of the error, and the mean as far as they reach: "58.2 ± 1.6".
std::string number_text(const Estimate& estimate) {
  const double error = estimate.standard_error;
  if (!std::isfinite(error) || error == 0.0) return fmt::format("{:.4g}", estimate.mean);
  if (error < 1e-6 || error > 1e6 || std::abs(estimate.mean) > 1e9) {
    return fmt::format("{:.4g} ± {:.2g}", estimate.mean, error);
  }
  const int decimals = std::max(0, 1 - static_cast<int>(std::floor(std::log10(error))));
  return fmt::format("{:.{}f} ± {:.{}f}", estimate.mean, decimals, error, decimals);
}

// The tensors that hold most of an eigenvector.
std::string shares_text(const std::vector<std::string>& tensors,
                        const std::vector<double>& shares) {
  constexpr size_t kNamed = 3;
  constexpr double kLeast = 0.05;
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return shares[a] > shares[b]; });
  std::string out;
  for (size_t k = 0; k < std::min(kNamed, order.size()); ++k) {
    if (k > 0 && shares[order[k]] < kLeast) break;
    out += fmt::format("{}{} {:.0f} %", k == 0 ? "" : ", ", tensors[order[k]],
                       100.0 * shares[order[k]]);
  }
  return out;
}

std::vector<Bar> trace_bars(const HessianReport& report) {
  std::vector<Bar> bars;
  for (size_t i = 0; i < report.tensors.size(); ++i) {
    const Estimate& part = report.trace.per_tensor[i];
    bars.push_back(
        {report.tensors[i], number_text(part), "", part.mean, part.standard_error, true});
  }
  return bars;
}

void add_eigenvalues(const HessianReport& report, const std::vector<Eigenvalue>& values,
                     std::string_view which, std::vector<Bar>& bars) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Eigenvalue& e = values[i];
    check(e.shares.empty() || e.shares.size() == report.tensors.size(),
          "an eigenvector has a share in every tensor");
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    const Estimate shown{e.value, e.converged ? nothing : e.residual};
    const std::string number = e.converged ? fmt::format("{:.5g}", e.value) : number_text(shown);
    const std::string note = fmt::format("{}{}", e.converged ? "" : "not converged; ",
                                         shares_text(report.tensors, e.shares));
    bars.push_back({fmt::format("{} {}", which, i + 1), number, note, shown.mean,
                    shown.standard_error, e.converged});
  }
}

}  // namespace

std::string hessian_svg(const HessianReport& report) {
  check(report.tensors.size() == report.trace.per_tensor.size(), "an estimate for every tensor");
  Picture picture;
  std::vector<Bar> eigenvalues;
  add_eigenvalues(report, report.largest, "largest", eigenvalues);
  add_eigenvalues(report, report.smallest, "smallest", eigenvalues);
  if (!eigenvalues.empty()) {
    picture.chart("Ends of the spectrum",
                  "Eigenvalues of the Hessian, and the tensors that their eigenvectors lie in.",
                  eigenvalues);
  }
  if (!report.tensors.empty()) {
    picture.chart("Trace by tensor",
                  fmt::format("{} in all. {}", number_text(report.trace.whole),
                              report.probes > 1
                                  ? fmt::format("Means and standard errors of {} random vectors.",
                                                report.probes)
                                  : "From one random vector: no error is known."),
                  trace_bars(report));
  }
  return picture.file(report.title, report.subtitle);
}

}  // namespace memwall
