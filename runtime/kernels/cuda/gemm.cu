// c = alpha a b (+ c) by cuBLASLt, with or without an epilogue. 16-bit operands use tensor cores
// and are added in FP32; FP32 products are of FP32 arithmetic, or of TF32 where the configuration
// says so. The workspace is the plan's.
#include <utility>

#include "runtime/kernels/cuda/products.h"
#include "runtime/kernels/gemm.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/panel.h"

namespace memwall::launchers {
namespace {

// Rows [first, m) of every batch of c.
template <class T>
struct ZeroRows {
  T* c;
  Strides strides;
  int64_t first, rows, columns;  // rows: of a batch, that are set

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    T* const to = c + row / rows * strides.batch + (first + row % rows) * strides.row;
    const int64_t step = strides.column;
    team.each(0, columns, [&](auto at) {
      for (int64_t j = at.first; j < at.first + kLanes && j < columns; ++j) to[j * step] = T(0.0f);
    });
  }
};

// What cuBLASLt gets of the planned workspace, as aligned as it needs it.
std::span<std::byte> library_workspace(const KernelCall& call) {
  const auto address = reinterpret_cast<uintptr_t>(call.workspace.data());
  const auto skipped =
      (cuda::kWorkspaceAlignment - address % cuda::kWorkspaceAlignment) % cuda::kWorkspaceAlignment;
  return call.workspace.subspan(skipped, cuda::kLibraryWorkspaceBytes);
}

// To c, of strides p.g.c: the call's result, or what it is formed in.
template <class T>
void multiply(const KernelCall& call, const cuda::Product& p, const Tensor& a, const Tensor& b,
              const Tensor& c, const cuda::Extra& extra = {}) {
  const cuda::Context& context = cuda::context_of(call);
  const auto& product = context.products->of(context.blas, p.key);
  const auto at = [](const Tensor& t, int64_t elements) {
    return static_cast<std::byte*>(t.data) + elements * size_of(t.dtype);
  };
  const auto is_aligned = [](const Tensor& t, const cuda::Side& side) {
    return reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(side.alignment()) == 0;
  };
  check(is_aligned(a, p.key.right) && is_aligned(b, p.key.left) && is_aligned(c, p.key.result),
        "gemm: a matrix is less aligned than its strides");
  const T alpha = static_cast<T>(p.g.alpha);
  for (int64_t batch = 0; batch < (p.sums_batch ? p.g.batch : 1); ++batch) {
    const T beta = call.accumulate || batch > 0 ? T{1} : T{0};
    product.start(context.blas, context.stream, &alpha, at(b, batch * p.g.b.batch),
                  at(a, batch * p.g.a.batch), &beta, c.data, extra, library_workspace(call));
  }
}

// A 16-bit result that sums over a batch: formed in FP32, rounded once.
void multiply_in_fp32(const KernelCall& call, const cuda::Product& p, const Tensor& a,
                      const Tensor& b) {
  const Strides& to = p.result;
  const int64_t m = p.g.m, n = p.g.n;
  const Tensor& c = call.outputs[0];
  const Tensor sum{call.workspace.data() + kDeviceGemmWorkspaceBytes, DType::kF32, {m, n}};
  with_operand_type<float>(c.dtype, [&]<class S>(S) {
    if (call.accumulate) {
      launch(call, m, n,
             CopyLines<float, S>{c.as<const S>(), to.row, to.column, sum.as<float>(), n, 1, n});
    }
    multiply<float>(call, p, a, b, sum);
    launch(call, m, n,
           CopyLines<S, float>{sum.as<const float>(), n, 1, c.as<S>(), to.row, to.column, n});
  });
}

// `bias`, `h`: nullptr where the epilogue has none.
void multiply_with(Epilogue epilogue, const KernelCall& call, const Tensor& c, const Tensor* bias,
                   const Tensor* h) {
  const auto& g = std::get<GemmAttributes>(call.attributes);
  const Tensor &a = call.inputs[0], &b = call.inputs[1];
  const cuda::Product product = cuda::product_of(g, call.iteration, a.dtype, b.dtype, c.dtype,
                                                 cuda::context_of(call).tf32, epilogue);
  check(!call.accumulate, "a product with an epilogue does not accumulate");
  check(static_cast<int64_t>(call.workspace.size()) >= device_gemm_workspace_bytes(g, c.dtype),
        "gemm: the workspace is too small");
  for (const Tensor* extra : {bias, h}) {
    if (extra == nullptr) continue;
    check(
        extra->dtype == c.dtype && reinterpret_cast<uintptr_t>(extra->data) %
                                           static_cast<uintptr_t>(product.key.extra_alignment()) ==
                                       0,
        "gemm: an epilogue's operand of another type, or less aligned than it must be");
  }
  multiply<float>(
      call, product, a, b, c,
      {.bias = bias == nullptr ? nullptr : bias->data, .h = h == nullptr ? nullptr : h->data});
}

}  // namespace

void gemm_bias(const KernelCall& call) {
  multiply_with(Epilogue::kBias, call, call.outputs[0], &call.inputs[2], nullptr);
}

void gemm_bias_gelu(const KernelCall& call) {
  multiply_with(Epilogue::kBiasGelu, call, call.outputs[1], &call.inputs[2], &call.outputs[0]);
}

void gemm_gelu_grad(const KernelCall& call) {
  multiply_with(Epilogue::kGeluGrad, call, call.outputs[0], nullptr, &call.inputs[2]);
}

void gemm(const KernelCall& call) {
  const auto whole = std::get<GemmAttributes>(call.attributes);
  const Tensor& c = call.outputs[0];
  if (const int64_t m = limited(whole, call.iteration).m; !call.accumulate && m < whole.m) {
    const int64_t rows = whole.m - m, batch = whole.c.batch == 0 ? 1 : whole.batch;
    with_float_type(c.dtype, [&]<class T>(T) {
      launch(call, batch * rows, whole.n, ZeroRows<T>{c.as<T>(), whole.c, m, rows, whole.n});
    });
  }
  Tensor a = call.inputs[0], b = call.inputs[1];
  const cuda::Product product = cuda::product_of(whole, call.iteration, a.dtype, b.dtype, c.dtype,
                                                 cuda::context_of(call).tf32);
  if (product.exchanged) std::swap(a, b);
  check(static_cast<int64_t>(call.workspace.size()) >= device_gemm_workspace_bytes(whole, c.dtype),
        "gemm: the workspace is too small");
  if (c.dtype == DType::kF64) {
    multiply<double>(call, product, a, b, c);
  } else if (product.in_fp32) {
    multiply_in_fp32(call, product, a, b);
  } else {
    multiply<float>(call, product, a, b, c);
  }
}

}  // namespace memwall::launchers
