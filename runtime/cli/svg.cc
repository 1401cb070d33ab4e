#include "runtime/cli/svg.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>

namespace memwall {
namespace {

constexpr std::string_view kStyle =
    R"(  text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; }
  .title { font: bold 18px system-ui, Helvetica, Arial, sans-serif; }
  .heading { font: bold 14px system-ui, Helvetica, Arial, sans-serif; }
  .plain { font: 13px system-ui, Helvetica, Arial, sans-serif; }
  .small { font-size: 11px; fill: #59636e; stroke: #ffffff; stroke-width: 3; paint-order: stroke; }
  .background { fill: #ffffff; }
  .grid { stroke: #d8dee4; }
  .zero { stroke: #59636e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; stroke: #0d1117; }
    .background { fill: #0d1117; }
    .grid { stroke: #2a313a; }
    .zero { stroke: #9198a1; }
  }
)";

}  // namespace

std::string svg_escaped(std::string_view text) {
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

std::vector<double> round_ticks(double low, double high) {
  const double least = (high - low) / 6.0, power = std::pow(10.0, std::floor(std::log10(least)));
  double step = 10.0 * power;
  for (double factor : {5.0, 2.0}) {
    if (factor * power >= least) step = factor * power;
  }
  std::vector<double> out;
  const auto last = static_cast<int64_t>(std::floor(high / step));
  for (auto k = static_cast<int64_t>(std::ceil(low / step)); k <= last; ++k) {
    out.push_back(static_cast<double>(k) * step);
  }
  return out;
}

void SvgPicture::text(double x, double at_y, std::string_view kind, std::string_view what,
                      std::string_view anchor) {
  body_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>)"
                       "\n",
                       x, at_y, kind, anchor, svg_escaped(what));
}

void SvgPicture::line(std::string_view kind, double x1, double y1, double x2, double y2) {
  body_ += fmt::format(R"(<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>)"
                       "\n",
                       kind, x1, x2, y1, y2);
}

void SvgPicture::rect(std::string_view kind, double x, double at_y, double width, double height) {
  body_ += fmt::format(R"(<rect class="{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>)"
                       "\n",
                       kind, x, at_y, width, height);
}

void SvgPicture::heading(std::string_view what, std::string_view remark) {
  y += kHeading;
  text(kMargin, y, "heading", what);
  y += kLine + 2;
  text(kMargin, y, "plain", remark);
  y += kLine;
}

std::string SvgPicture::file(std::string_view title, std::string_view subtitle,
                             std::string_view style) const {
  SvgPicture head;
  head.text(kMargin, 36, "title", title);
  head.text(kMargin, 56, "plain", subtitle);
  return fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" )"
                     R"(viewBox="0 0 {0:.0f} {1:.0f}" role="img">)"
                     "\n<title>{2}</title>\n<style>\n{3}{4}</style>\n"
                     R"(<rect class="background" width="100%" height="100%"/>)"
                     "\n{5}{6}</svg>\n",
                     kWidth, y + kMargin, svg_escaped(title), kStyle, style, head.body_, body_);
}

}  // namespace memwall
