#include "runtime/cli/hessian_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/cli/svg.h"

namespace memwall {
namespace {

// Pixels.
constexpr double kBarsLeft = 240, kBarsRight = 750;     // labels stand left of it, numbers right
constexpr double kLine = SvgPicture::kLine, kBar = 10;  // height of a row, of a bar in it

constexpr std::string_view kStyle = R"(  .error { stroke: #1f2328; stroke-width: 1.2; fill: none; }
  .positive { fill: #4c8dd6; stroke: #4c8dd6; }
  .negative { fill: #dd7a3a; stroke: #dd7a3a; }
  .open { fill-opacity: 0.15; stroke-dasharray: 3 2; }
  @media (prefers-color-scheme: dark) {
    .error { stroke: #e6edf3; }
  }
)";

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
  std::vector<double> ticks() const { return round_ticks(low_, high_); }

 private:
  double low_ = 0.0, high_ = 0.0;
};

double height_of(const Bar& bar) {
  return bar.note.empty() ? kLine : 2 * kLine;
}

void draw_error(SvgPicture& picture, const Axis& axis, const Bar& bar, double middle) {
  const double low = axis.at(bar.value - bar.error), high = axis.at(bar.value + bar.error);
  if (high - low < 1.0) return;  // less than a pixel
  picture.raw(fmt::format(
      R"(<path class="error" d="M{0:.2f} {2:.1f}V{3:.1f}M{0:.2f} {4:.1f}H{1:.2f}M{1:.2f} )"
      R"({2:.1f}V{3:.1f}"/>)"
      "\n",
      low, high, middle - 3, middle + 3, middle));
}

void draw_row(SvgPicture& picture, const Axis& axis, const Bar& bar) {
  const double middle = picture.y + kLine / 2, base = middle + 4;
  picture.raw(
      fmt::format("<g><title>{} {}</title>\n", svg_escaped(bar.label), svg_escaped(bar.number)));
  picture.text(kBarsLeft - 10, base, "label", bar.label, "end");
  if (std::isfinite(bar.value)) {
    const double from = axis.at(std::min(bar.value, 0.0)), to = axis.at(std::max(bar.value, 0.0));
    picture.rect(fmt::format("{}{}", bar.value < 0.0 ? "negative" : "positive",
                             bar.is_certain ? "" : " open"),
                 from, middle - kBar / 2, to - from, kBar);
    if (std::isfinite(bar.error)) draw_error(picture, axis, bar, middle);
  }
  picture.text(kBarsRight + 12, base, "number", bar.number);
  if (!bar.note.empty()) picture.text(kBarsLeft + 4, base + kLine - 2, "small", bar.note);
  picture.raw("</g>\n");
  picture.y += height_of(bar);
}

// A heading over rows of bars on one axis.
void draw_chart(SvgPicture& picture, std::string_view heading, std::string_view remark,
                std::span<const Bar> bars) {
  picture.heading(heading, remark);
  const Axis axis(bars);
  const double top = picture.y + 6;
  double bottom = top;
  for (const Bar& bar : bars) bottom += height_of(bar);
  for (double tick : axis.ticks()) {
    picture.line(tick == 0.0 ? "zero" : "grid", axis.at(tick), top, axis.at(tick), bottom);
    picture.text(axis.at(tick), bottom + 12, "small", fmt::format("{:.4g}", tick), "middle");
  }
  picture.y = top;
  for (const Bar& bar : bars) draw_row(picture, axis, bar);
  picture.y = bottom + kLine;
}

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
  SvgPicture picture;
  std::vector<Bar> eigenvalues;
  add_eigenvalues(report, report.largest, "largest", eigenvalues);
  add_eigenvalues(report, report.smallest, "smallest", eigenvalues);
  if (!eigenvalues.empty()) {
    draw_chart(picture, "Ends of the spectrum",
               "Eigenvalues of the Hessian, and the tensors that their eigenvectors lie in.",
               eigenvalues);
  }
  if (!report.tensors.empty()) {
    draw_chart(picture, "Trace by tensor",
               fmt::format("{} in all. {}", number_text(report.trace.whole),
                           report.probes > 1
                               ? fmt::format("Means and standard errors of {} random vectors.",
                                             report.probes)
                               : "From one random vector: no error is known."),
               trace_bars(report));
  }
  return picture.file(report.title, report.subtitle, kStyle);
}

}  // namespace memwall
