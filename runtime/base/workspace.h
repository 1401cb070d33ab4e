// Scratch that kernels need, in bytes. The graph's rules plan by these formulas and the kernels use
// them: there is no second one. Unless a name says "device" the formula is that of all targets.
#pragma once

#include <cstdint>

#include "runtime/base/dtype.h"
#include "runtime/base/op.h"

namespace memwall {

inline constexpr int64_t kSumBlock = 4096;  // elements in a partial of a whole sum

// Counting sort: where each table row's tokens start, then the tokens' positions.
int64_t embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens);
// On a GPU: where each table row's tokens begin and end, and their positions.
int64_t device_embedding_grad_workspace_bytes(int64_t table_rows, int64_t tokens);

inline constexpr int64_t kRowBlock = 64;  // rows in a partial of a column sum

// kGeluGradColumns, kLayerNormGrads: `columns` sums of each block of rows of a tensor of `dtype`.
int64_t block_sums_workspace_bytes(int64_t rows, int64_t columns, DType dtype);

// kSum (parts = 1), kSumParts and kSumSquares. Without a workspace they run on one thread, to the
// same bits.
int64_t sum_workspace_bytes(int64_t elements, int64_t parts);

// kGemm, with the dtypes of its operands and result: the panels of gemm_panels.h.
int64_t gemm_workspace_bytes(const GemmAttributes& g, DType a, DType b, DType c);
// On a GPU: what cuBLASLt may use for any product, NVIDIA's recommendation for sm_90; behind it a
// 16-bit result's sum over a batch, in FP32.
inline constexpr int64_t kDeviceGemmWorkspaceBytes = int64_t{32} << 20;
bool sums_batch_in_fp32(const GemmAttributes& g, DType c);
int64_t device_gemm_workspace_bytes(const GemmAttributes& g, DType c);

// kAttention and kAttentionGrad on the CPU: of each sample and head a row of scores; its gradient
// also sums dk and dv.
int64_t attention_workspace_bytes(const AttentionAttributes& a, DType dtype);
int64_t attention_grad_workspace_bytes(const AttentionAttributes& a, DType dtype);

// On a GPU: what cuDNN may take for any call beside what follows.
inline constexpr int64_t kDeviceAttentionWorkspaceBytes = int64_t{32} << 20;
// cuDNN's deterministic backward keeps the gradients of a call's scores, which grow with the square
// of `time`, on sm_80 and sm_90 (on sm_100 it needs less). Chooses samples_a_call and heads_a_call
// so that they take kDeviceScoresBytes; one head may take kMostDeviceScoresBytes, and where it
// takes more there is no call: 0. Each call's statistics begin at a multiple of 16 bytes.
inline constexpr int64_t kDeviceScoresBytes = int64_t{256} << 20;
inline constexpr int64_t kMostDeviceScoresBytes = int64_t{1} << 30;
void choose_device_calls(AttentionAttributes& a);
int64_t device_attention_grad_workspace_bytes(const AttentionAttributes& a);

}  // namespace memwall
