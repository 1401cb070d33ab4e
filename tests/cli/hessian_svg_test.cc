// The picture of curvature, read back: what is drawn where.
#include "runtime/cli/hessian_svg.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <regex>
#include <string>
#include <vector>

namespace memwall {
namespace {

HessianReport report() {
  HessianReport r;
  r.title = "runs/a & b, step 10";
  r.subtitle = "train";
  r.tensors = {"wte.weight", "h.0.ln_1.bias", "<odd>"};
  r.probes = 8;
  r.trace.whole = {12.5, 0.75};
  r.trace.per_tensor = {{10.0, 2.0}, {5.0, 0.04}, {-2.5, 1.0}};
  r.largest = {{8.0, 1e-9, true, {0.9, 0.04, 0.06}}, {4.0, 1e-9, true, {0.2, 0.5, 0.3}}};
  r.smallest = {{-4.0, 0.5, false, {0.1, 0.1, 0.8}}};
  return r;
}

struct Row {
  std::string name, number, kind;
  double left = 0.0, width = 0.0;
  double error_left = 0.0, error_right = 0.0;  // both 0 where none is drawn
};

// Rows in order; eigenvalues come first.
std::vector<Row> rows_of(const std::string& svg) {
  static const std::regex group("<g>([^]*?)</g>");
  static const std::regex label("class=\"label\"[^>]*>([^<]*)<");
  static const std::regex number("class=\"number\"[^>]*>([^<]*)<");
  static const std::regex rect("<rect class=\"([^\"]*)\" x=\"([^\"]*)\"[^>]*width=\"([^\"]*)\"");
  static const std::regex error("class=\"error\" d=\"M([0-9.]+) [^H]*H([0-9.]+)");
  std::vector<Row> rows;
  for (std::sregex_iterator it(svg.begin(), svg.end(), group), end; it != end; ++it) {
    const std::string text = it->str(1);
    Row row;
    std::smatch match;
    if (std::regex_search(text, match, label)) row.name = match[1];
    if (std::regex_search(text, match, number)) row.number = match[1];
    if (std::regex_search(text, match, rect)) {
      row.kind = match[1];
      row.left = std::stod(match[2]);
      row.width = std::stod(match[3]);
    }
    if (std::regex_search(text, match, error)) {
      row.error_left = std::stod(match[1]);
      row.error_right = std::stod(match[2]);
    }
    rows.push_back(row);
  }
  return rows;
}

constexpr double kPixel = 0.02;  // coordinates have two decimals

TEST(HessianSvg, BarsHaveTheLengthsOfTheNumbers) {
  const std::vector<Row> rows = rows_of(hessian_svg(report()));
  ASSERT_EQ(rows.size(), 6u);
  const Row &a = rows[3], &b = rows[4], &c = rows[5];
  EXPECT_EQ(a.name, "wte.weight");
  EXPECT_EQ(a.number, "10.0 ± 2.0");
  EXPECT_EQ(b.number, "5.000 ± 0.040");
  EXPECT_EQ(c.name, "&lt;odd&gt;");
  EXPECT_EQ(c.number, "-2.5 ± 1.0");
  // 10 : 5 : 2.5, to the right and to the left of one zero.
  EXPECT_GT(a.width, 200.0);
  EXPECT_NEAR(b.width, a.width / 2, kPixel);
  EXPECT_NEAR(c.width, a.width / 4, kPixel);
  EXPECT_NEAR(b.left, a.left, kPixel);
  EXPECT_NEAR(c.left + c.width, a.left, kPixel);
  EXPECT_EQ(a.kind, "positive");
  EXPECT_EQ(c.kind, "negative");
}

TEST(HessianSvg, ErrorBarsStandAroundTheEnds) {
  const std::vector<Row> rows = rows_of(hessian_svg(report()));
  const Row &a = rows[3], &c = rows[5];
  const double unit = a.width / 10.0;
  EXPECT_NEAR(a.error_left, a.left + 8.0 * unit, kPixel);
  EXPECT_NEAR(a.error_right, a.left + 12.0 * unit, kPixel);
  EXPECT_NEAR(c.error_left, a.left - 3.5 * unit, kPixel);
  EXPECT_NEAR(c.error_right, a.left - 1.5 * unit, kPixel);
}

TEST(HessianSvg, EigenvaluesNameTheirTensors) {
  const std::string svg = hessian_svg(report());
  const std::vector<Row> rows = rows_of(svg);
  EXPECT_EQ(rows[0].name, "largest 1");
  EXPECT_EQ(rows[0].number, "8");
  EXPECT_EQ(rows[1].name, "largest 2");
  EXPECT_NEAR(rows[1].width, rows[0].width / 2, kPixel);
  EXPECT_EQ(rows[1].error_right, 0.0);
  EXPECT_EQ(rows[2].name, "smallest 1");
  EXPECT_EQ(rows[2].number, "-4.00 ± 0.50");
  EXPECT_EQ(rows[2].kind, "negative open");
  EXPECT_NEAR(rows[2].error_right - rows[2].error_left, rows[0].width / 8, 2 * kPixel);
  // Shares below 5 % are not worth a name.
  EXPECT_NE(svg.find(">wte.weight 90 %, &lt;odd&gt; 6 %<"), std::string::npos);
  EXPECT_NE(svg.find(">h.0.ln_1.bias 50 %, &lt;odd&gt; 30 %, wte.weight 20 %<"), std::string::npos);
  EXPECT_NE(svg.find(">not converged; &lt;odd&gt; 80 %, wte.weight 10 %, h.0.ln_1.bias 10 %<"),
            std::string::npos);
}

TEST(HessianSvg, OneProbeHasNoErrors) {
  HessianReport r = report();
  r.probes = 1;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (Estimate& e : r.trace.per_tensor) e.standard_error = nan;
  r.trace.whole.standard_error = nan;
  r.largest.clear();
  r.smallest.clear();
  const std::string svg = hessian_svg(r);
  for (const Row& row : rows_of(svg)) EXPECT_EQ(row.error_right, 0.0);
  EXPECT_EQ(rows_of(svg)[1].number, "5");
  EXPECT_NE(svg.find("12.5 in all. From one random vector: no error is known."), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(HessianSvg, DrawsZerosOnly) {
  HessianReport r = report();
  r.largest.clear();
  r.smallest.clear();
  r.trace.per_tensor = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}};
  r.trace.whole = {0.0, 0.0};
  const std::string svg = hessian_svg(r);
  ASSERT_EQ(rows_of(svg).size(), 3u);
  EXPECT_EQ(rows_of(svg)[0].width, 0.0);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

// XML: every element ends where it should, and text holds no bare "<" or "&".
TEST(HessianSvg, IsWellFormed) {
  const std::string svg = hessian_svg(report());
  EXPECT_NE(svg.find("<title>runs/a &amp; b, step 10</title>"), std::string::npos);
  static const std::regex entity("&(?!(amp|lt|gt|quot);)");
  EXPECT_FALSE(std::regex_search(svg, entity));
  static const std::regex tag("<(/?)([a-z]+)((?:[^<>\"]|\"[^\"<]*\")*?)(/?)>");
  std::vector<std::string> open;
  size_t tags = 0;
  for (std::sregex_iterator it(svg.begin(), svg.end(), tag), end; it != end; ++it, ++tags) {
    const std::string name = it->str(2);
    if (it->str(1) == "/") {
      ASSERT_FALSE(open.empty()) << name;
      EXPECT_EQ(open.back(), name);
      open.pop_back();
    } else if (it->str(4) != "/") {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(tags, static_cast<size_t>(std::count(svg.begin(), svg.end(), '<')));
}

}  // namespace
}  // namespace memwall
