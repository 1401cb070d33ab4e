#include "runtime/exec/gpu/gemm_rate.h"

#include <algorithm>
#include <vector>

#include "runtime/base/half.h"
#include "runtime/base/rng.h"
#include "runtime/base/workspace.h"
#include "runtime/kernels/kernel.h"

namespace memwall::cuda {
namespace {

constexpr auto kQueue = Device::Queue::kCompute;
constexpr int kRepeats = 10;

// Elements of `dtype` in (-1, 1): on equal numbers a GPU draws less power and runs faster.
template <class T>
std::vector<T> random_numbers(size_t count) {
  std::vector<T> out(count);
  for (size_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(static_cast<float>(2.0 * to_unit_interval(random_bits(1, 0, i)) - 1.0));
  }
  return out;
}

template <class T>
void fill_randomly(Device& device, std::byte* to, int64_t elements) {
  constexpr int64_t kTaken = int64_t{1} << 20;
  const std::vector<T> numbers = random_numbers<T>(kTaken);
  for (int64_t at = 0; at < elements; at += kTaken) {
    const int64_t count = std::min(kTaken, elements - at);
    device.copy(kQueue, to + at * static_cast<int64_t>(sizeof(T)), numbers.data(),
                count * static_cast<int64_t>(sizeof(T)));
  }
  device.finish(kQueue);
}

}  // namespace

double measure_gemm_flops(Device& device, DType dtype) {
  const int64_t size = dtype == DType::kF64 ? 2048 : dtype == DType::kF32 ? 4096 : 8192;
  const int64_t elements = size * size, bytes = elements * size_of(dtype);
  std::byte* const memory = device.allocate(3 * bytes + kDeviceGemmWorkspaceBytes);
  for (int64_t at : {int64_t{0}, bytes}) {
    switch (dtype) {
      case DType::kF16: fill_randomly<Half>(device, memory + at, elements); break;
      case DType::kBF16: fill_randomly<BFloat16>(device, memory + at, elements); break;
      case DType::kF32: fill_randomly<float>(device, memory + at, elements); break;
      default: fill_randomly<double>(device, memory + at, elements);
    }
  }
  const Strides by_rows{elements, size, 1};
  GemmAttributes g;
  g.m = g.n = g.k = size;
  g.a = g.b = g.c = by_rows;
  const Attributes product = g;
  const Shape shape{size, size};
  const std::vector<Tensor> inputs{{memory, dtype, shape}, {memory + bytes, dtype, shape}};
  const std::vector<Tensor> outputs{{memory + 2 * bytes, dtype, shape}};
  const KernelCall call{product,
                        inputs,
                        outputs,
                        /*accumulate=*/false,
                        /*iteration=*/0,
                        /*rank=*/0,
                        /*ranks=*/1,
                        /*unit=*/nullptr,
                        {memory + 3 * bytes, static_cast<size_t>(kDeviceGemmWorkspaceBytes)},
                        /*threads=*/1,
                        /*dual=*/false,
                        device.context()};
  const Kernel kernel = kernel_of(Op::kGemm);
  kernel(call);
  const Device::Mark start = device.mark(kQueue);
  for (int i = 0; i < kRepeats; ++i) kernel(call);
  const Device::Mark end = device.mark(kQueue);
  device.wait(end);
  const double seconds = device.seconds_between(start, end) / kRepeats;
  device.release(memory);
  const auto side = static_cast<double>(size);
  return 2.0 * side * side * side / seconds;
}

}  // namespace memwall::cuda
