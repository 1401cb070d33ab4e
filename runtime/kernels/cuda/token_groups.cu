// Grouping tokens on the GPU: a token's place is the number of tokens that belong before it. That
// is quadratic in the tokens of a micro-step, but has neither atomics nor a sort's passes: 16,384
// tokens are 0.27 G comparisons.
#include "runtime/base/workspace.h"
#include "runtime/kernels/launchers/token_groups.h"
#include "runtime/kernels/launchers/types.h"

namespace memwall::launchers {
namespace {

// A row of the kernel is a token.
struct PlaceToken {
  const int32_t* indices;
  int32_t *begins, *ends, *positions;
  int64_t tokens;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t token) const {
    const auto mine = static_cast<float>(indices[token]);
    const Input<int32_t, float> all{indices};  // table rows below 2^24 are exact
    const auto count = [&](int64_t of, auto place) {
      return team.sum(of, [&](auto at) { return place(all(at)); });
    };
    const Pack<float> one = 1.0f, zero = 0.0f;
    const float smaller =
        count(tokens, [&](const auto& v) { return where_less(v, Pack<float>(mine), one, zero); });
    const auto equal = [&](const auto& v) { return where_equal(v, Pack<float>(mine), one, zero); };
    const float before = count(token, equal), group = count(tokens, equal);
    team.lead([&] {
      const auto begin = static_cast<int32_t>(smaller);
      positions[begin + static_cast<int32_t>(before)] = static_cast<int32_t>(token);
      if (before == 0.0f) {
        begins[indices[token]] = begin;
        ends[indices[token]] = begin + static_cast<int32_t>(group);
      }
    });
  }
};

struct NoTokens {
  int32_t* groups;
  int64_t count;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    each_of_tile(team, row, count,
                 [&](auto at) { Output<int32_t, float>{groups}.store(at, 0.0f); });
  }
};

}  // namespace

TokenGroups group_tokens(const KernelCall& call, int64_t tokens, int64_t table_rows) {
  check(static_cast<int64_t>(call.workspace.size()) >=
            device_embedding_grad_workspace_bytes(table_rows, tokens),
        "embedding_grad: the workspace is too small");
  check(tokens < 1 << 24 && table_rows < 1 << 24, "embedding_grad: too many tokens or table rows");
  auto* const begins = reinterpret_cast<int32_t*>(call.workspace.data());
  int32_t* const ends = begins + table_rows;
  int32_t* const positions = ends + table_rows;
  launch_tiles(call, 2 * table_rows, NoTokens{begins, 2 * table_rows});
  launch(call, tokens, tokens,
         PlaceToken{call.inputs[0].as<const int32_t>(), begins, ends, positions, tokens});
  return {ends, positions, begins};
}

}  // namespace memwall::launchers
