#include "runtime/base/workspace.h"

#include <algorithm>

#include "runtime/base/gemm_panels.h"
#include "runtime/base/math.h"

namespace memwall {

int64_t embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens) {
  return (table_rows + 1 + tokens) * size_of(DType::kI32);
}

int64_t device_embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens) {
  return (2 * table_rows + tokens) * size_of(DType::kI32);
}

int64_t sum_workspace_bytes(int64_t elements, int64_t parts) {
  return parts * ceil_div(elements / parts, kSumBlock) * size_of(DType::kF64);
}

int64_t block_sums_workspace_bytes(int64_t rows, int64_t columns, DType dtype) {
  return ceil_div(rows, kRowBlock) * columns * size_of(accumulator_of(dtype));
}

int64_t gemm_workspace_bytes(const GemmAttributes& g, DType a, DType b, DType c) {
  if (c == DType::kF64) return 0;
  if (has_transposed_result(g)) return gemm_panels(transposed(g), b, a, c).bytes();
  return gemm_panels(g, a, b, c).bytes();
}

bool sums_batch_in_fp32(const GemmAttributes& g, DType c) {
  return g.c.batch == 0 && g.batch > 1 && c != accumulator_of(c);
}

int64_t device_gemm_workspace_bytes(const GemmAttributes& g, DType c) {
  const int64_t sum = sums_batch_in_fp32(g, c) ? g.m * g.n * size_of(DType::kF32) : 0;
  return kDeviceGemmWorkspaceBytes + sum;
}

int64_t attention_workspace_bytes(const AttentionAttributes& a, DType dtype) {
  return a.samples * a.heads * a.time * size_of(accumulator_of(dtype));
}

int64_t attention_grad_workspace_bytes(const AttentionAttributes& a, DType dtype) {
  return 2 * (1 + a.size) * attention_workspace_bytes(a, dtype);
}

namespace {

// Of a head, in tiles of 64 queries and 128 keys, 16 bits each.
int64_t device_scores_bytes(const AttentionAttributes& a) {
  return round_up(a.time, int64_t{64}) * round_up(a.time, int64_t{128}) * 2;
}

// The largest divisor of `parts` that is at most `limit` and begins at multiples of 16 bytes, where
// each part has `queries` statistics; else 0.
int64_t aligned_divisor(int64_t parts, int64_t limit, int64_t queries) {
  for (int64_t d = std::min(parts, limit); d > 0; --d) {
    const bool aligned = d == parts || d * queries * size_of(DType::kF32) % 16 == 0;
    if (parts % d == 0 && aligned) return d;
  }
  return 0;
}

}  // namespace

void choose_device_calls(AttentionAttributes& a) {
  const int64_t head = device_scores_bytes(a), sample = a.heads * head;
  a.samples_a_call = a.heads_a_call = 0;
  if (head > kMostDeviceScoresBytes) return;
  if (sample <= kDeviceScoresBytes) {
    a.samples_a_call = aligned_divisor(a.samples, kDeviceScoresBytes / sample, a.heads * a.time);
    a.heads_a_call = a.samples_a_call > 0 ? a.heads : 0;
    return;
  }
  const int64_t most = std::max(int64_t{1}, kDeviceScoresBytes / head);
  a.heads_a_call = aligned_divisor(a.heads, most, a.time);
  const bool begins_aligned = a.samples == 1 || a.heads * a.time % 4 == 0;
  if (!begins_aligned) a.heads_a_call = 0;
  a.samples_a_call = a.heads_a_call > 0 ? 1 : 0;
}

int64_t device_attention_grad_workspace_bytes(const AttentionAttributes& a) {
  // Beside the scores: dq, and a sum for each query, in FP32.
  const int64_t rows = a.time * (a.size + 1) * size_of(DType::kF32);
  return kDeviceAttentionWorkspaceBytes +
         a.samples_a_call * a.heads_a_call * (device_scores_bytes(a) + rows);
}

}  // namespace memwall
