#include "runtime/base/gemm_panels.h"

#include <algorithm>

#include "runtime/base/math.h"

namespace memwall {
namespace {

// Tiles of c where it passes through a panel, and where only operands do. Larger ones make the
// library faster (0.96 to 1.11 of a whole product's time with 1024, 1.00 to 1.12 with 1024 x 2048,
// 1.05 to 1.2 with 512, over GPT-2's shapes) and cost memory: 4 MiB of c, 1 of a and b each.
constexpr int64_t kResultTile = 1024, kOperandTile = 4096;
constexpr int64_t kAlignment = 64;
constexpr int64_t kSetsBytes = int64_t{2} << 20;

Strides transposed(const Strides& s) {
  return {s.batch, s.column, s.row};
}

int64_t panel_bytes(int64_t rows, int64_t columns) {
  return round_up(rows * columns * size_of(DType::kF32), kAlignment);
}

}  // namespace

std::optional<Layout> layout_of(const Strides& s, int64_t rows, int64_t columns) {
  if ((s.column == 1 || columns == 1) && (s.row >= columns || rows == 1)) {
    return Layout{'N', rows == 1 ? columns : s.row};
  }
  if ((s.row == 1 || rows == 1) && (s.column >= rows || columns == 1)) {
    return Layout{'T', columns == 1 ? rows : s.column};
  }
  return std::nullopt;
}

bool has_transposed_result(const GemmAttributes& g) {
  return g.c.column != 1 && g.c.row == 1;
}

GemmAttributes transposed(const GemmAttributes& g) {
  GemmAttributes t = g;
  t.m = g.n;
  t.n = g.m;
  t.a = transposed(g.b);
  t.b = transposed(g.a);
  t.c = transposed(g.c);
  return t;
}

GemmPanels gemm_panels(const GemmAttributes& g, DType a, DType b, DType c) {
  const auto in_place = [](DType dtype, const std::optional<Layout>& layout) {
    return dtype == DType::kF32 && layout.has_value();
  };
  const auto layout_c = layout_of(g.c, g.m, g.n);
  const bool a_in_place = in_place(a, layout_of(g.a, g.m, g.k));
  const bool b_in_place = in_place(b, layout_of(g.b, g.k, g.n));
  const bool c_in_place = in_place(c, layout_c) && layout_c->transpose == 'N';
  GemmPanels panels{g.m, g.n};
  if (a_in_place && b_in_place && c_in_place) return panels;
  const int64_t tile = c_in_place ? kOperandTile : kResultTile;
  panels.rows = std::min(g.m, tile);
  panels.columns = std::min(g.n, tile);
  const int64_t depth = std::min(g.k, kGemmDepth);
  if (!a_in_place) panels.a_bytes = panel_bytes(panels.rows, depth);
  if (!b_in_place) panels.b_bytes = panel_bytes(depth, panels.columns);
  if (!c_in_place) panels.c_bytes = panel_bytes(panels.rows, panels.columns);
  if (g.c.batch != 0) {
    panels.sets = std::clamp(kSetsBytes / panels.set_bytes(), int64_t{1}, g.batch);
  }
  return panels;
}

}  // namespace memwall
