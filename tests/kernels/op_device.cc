#include "tests/kernels/op_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/gemm_panels.h"
#include "runtime/base/math.h"
#include "runtime/exec/gpu/module.h"
#include "runtime/graph/ops/op_rules.h"

namespace memwall::test {
namespace {

using Queue = Device::Queue;

constexpr int64_t kBufferAlignment = 256;
constexpr int64_t kGuardBytes = 4096;  // behind a workspace
constexpr uint8_t kGuardByte = 0xA5;
// What a workspace holds before: not a number, in every type. Of a large one only the beginning.
constexpr uint8_t kStaleByte = 0xFF;
constexpr int64_t kStaleBytes = int64_t{1} << 20;

// Memory that grows with what is asked for.
class Memory {
 public:
  Memory(Device& device, bool of_host) : device_(device), of_host_(of_host) {}
  ~Memory() { release(); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* of(int64_t bytes) {
    if (bytes > bytes_) {
      release();
      data_ = of_host_ ? device_.allocate_host(2 * bytes) : device_.allocate(2 * bytes);
      bytes_ = 2 * bytes;
    }
    return data_;
  }

 private:
  void release() {
    if (data_ == nullptr) return;
    of_host_ ? device_.release_host(data_) : device_.release(data_);
    data_ = nullptr;
    bytes_ = 0;
  }

  Device& device_;
  bool of_host_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

struct Gpu {
  explicit Gpu(std::unique_ptr<Device> opened) : device(std::move(opened)) {}

  std::unique_ptr<Device> device;
  Memory memory{*device, false}, workspace{*device, false}, host{*device, true};
  int64_t calls = 0;
  std::map<std::string, int64_t> refusals;
};
std::unique_ptr<Gpu> the_gpu;

class Environment final : public testing::Environment {
 public:
  void SetUp() override {
    if (!on_gpu()) return;
    const GpuModule& module = open_gpu_module();
    std::string why;
    try {
      if (module.devices() == 0) why = "there is no GPU";
    } catch (const Error& error) {
      why = error.what();
    }
    if (!why.empty()) GTEST_SKIP() << "no GPU: " << why;  // CTest looks for the first words
    the_gpu = std::make_unique<Gpu>(module.open(0));
  }

  void TearDown() override {
    if (the_gpu == nullptr) return;
    std::printf("%s: %lld calls", the_gpu->device->info().name.c_str(),
                static_cast<long long>(the_gpu->calls));
    for (const auto& [why, count] : the_gpu->refusals) {
      std::printf("; %lld not made: %s", static_cast<long long>(count), why.c_str());
    }
    std::printf("\n");
    the_gpu.reset();
  }
};
[[maybe_unused]] const auto* const the_environment =
    testing::AddGlobalTestEnvironment(new Environment);

// As the plan has it: the rules are asked about a graph of this one node.
int64_t workspace_bytes(Op op, const KernelCall& call) {
  Graph graph;
  Node node;
  node.op = op;
  node.attributes = call.attributes;
  node.dual = call.dual;
  const auto add = [&graph](const Tensor& t, std::vector<ValueId>& to) {
    to.push_back(static_cast<ValueId>(graph.values.size()));
    graph.values.push_back({.type = {t.dtype, t.shape}});
  };
  for (const Tensor& t : call.inputs) add(t, node.inputs);
  for (const Tensor& t : call.outputs) add(t, node.outputs);
  return std::max<int64_t>(0, workspace_of(graph, node, Backend::kCuda));
}

// Where the buffers lie one behind the other.
std::vector<int64_t> offsets_of(std::span<const std::span<std::byte>> buffers) {
  std::vector<int64_t> offsets = {0};
  for (const auto& buffer : buffers) {
    const auto size = static_cast<int64_t>(buffer.size());
    offsets.push_back(round_up(offsets.back() + size, kBufferAlignment));
  }
  return offsets;
}

// The tensors with their addresses on the GPU.
std::vector<Tensor> moved(std::span<const Tensor> tensors,
                          std::span<const std::span<std::byte>> buffers,
                          const std::vector<int64_t>& offsets, std::byte* memory) {
  std::vector<Tensor> out(tensors.begin(), tensors.end());
  for (Tensor& t : out) {
    const auto* const data = t.as<std::byte>();
    const auto found = std::find_if(buffers.begin(), buffers.end(), [&](const auto& buffer) {
      return data >= buffer.data() && data < buffer.data() + buffer.size();
    });
    check(found != buffers.end(), "a tensor outside the buffers");
    t.data =
        memory + offsets[static_cast<size_t>(found - buffers.begin())] + (data - found->data());
  }
  return out;
}

// cuBLASLt's: rows or columns must be contiguous.
bool has_contiguous_dimension(const Strides& s, int64_t rows, int64_t columns) {
  return layout_of(s, rows, columns).has_value();
}

}  // namespace

bool on_gpu() {
  const char* const device = std::getenv("MEMWALL_TEST_DEVICE");
  return device != nullptr && std::string_view(device) == "CUDA";
}

bool on_imitated_gpu() {
  return the_gpu != nullptr && the_gpu->device->info().name.starts_with("Imitated");
}

std::string refusal_of(Op op, const KernelCall& call) {
  if (op == Op::kAttention || op == Op::kAttentionGrad) {
    return size_of(call.inputs[0].dtype) == 2 ? "" : "attention of more than 16 bits";
  }
  if (!is_product(op)) return "";
  if (op != Op::kGemm && call.inputs[0].dtype == DType::kF64) return "epilogues of FP64 products";
  const auto& g = std::get<GemmAttributes>(call.attributes);
  if (call.inputs[0].dtype != call.inputs[1].dtype) return "products of operands of two types";
  if (!has_contiguous_dimension(g.a, g.m, g.k) || !has_contiguous_dimension(g.b, g.k, g.n) ||
      !has_contiguous_dimension(g.c, g.m, g.n)) {
    return "products of a matrix without a contiguous dimension";
  }
  return "";
}

void count_refusal(const std::string& why) {
  ++the_gpu->refusals[why];
}

void run_on_gpu(Op op, const KernelCall& call, std::span<const std::span<std::byte>> buffers) {
  check(the_gpu != nullptr, "the GPU is opened when the tests begin");
  Device& device = *the_gpu->device;
  const std::vector<int64_t> offsets = offsets_of(buffers);
  const int64_t bytes = offsets.back(), scratch = workspace_bytes(op, call);
  std::byte* const host = the_gpu->host.of(bytes + kGuardBytes);
  std::byte* const memory = the_gpu->memory.of(bytes + kGuardBytes);
  std::byte* const workspace = the_gpu->workspace.of(scratch + kGuardBytes);
  for (size_t i = 0; i < buffers.size(); ++i) {
    std::memcpy(host + offsets[i], buffers[i].data(), buffers[i].size());
  }
  device.copy(Queue::kCompute, memory, host, bytes);
  device.fill(Queue::kCompute, workspace, kStaleByte, std::min(scratch, kStaleBytes));
  device.fill(Queue::kCompute, workspace + scratch, kGuardByte, kGuardBytes);

  KernelCall moved_call = call;
  const std::vector<Tensor> inputs = moved(call.inputs, buffers, offsets, memory);
  const std::vector<Tensor> outputs = moved(call.outputs, buffers, offsets, memory);
  moved_call.inputs = inputs;
  moved_call.outputs = outputs;
  moved_call.workspace = {workspace, static_cast<size_t>(scratch)};
  moved_call.context = device.context();
  ++the_gpu->calls;
  try {
    open_gpu_module().kernels()(op)(moved_call);
  } catch (...) {
    device.finish(Queue::kCompute);  // before the host's memory is written again
    throw;
  }

  device.copy(Queue::kCompute, host, memory, bytes);
  device.copy(Queue::kCompute, host + bytes, workspace + scratch, kGuardBytes);
  device.finish(Queue::kCompute);
  for (size_t i = 0; i < buffers.size(); ++i) {
    std::memcpy(buffers[i].data(), host + offsets[i], buffers[i].size());
  }
  EXPECT_TRUE(std::all_of(host + bytes, host + bytes + kGuardBytes,
                          [](std::byte b) { return b == std::byte{kGuardByte}; }))
      << op_name(op) << " wrote behind its workspace of " << scratch << " bytes";
}

}  // namespace memwall::test
