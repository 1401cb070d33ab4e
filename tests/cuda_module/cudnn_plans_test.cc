// The real cuDNN, asked without a GPU: whether it has kernels for attention of these shapes on
// these cards, and whether their workspaces are within the planned ones. cuDNN compiles for a card
// that is described to it; nothing is executed. Skipped where its library cannot be opened.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "runtime/base/workspace.h"
#include "runtime/kernels/cuda/cudnn/attention_graph.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace memwall::cuda {
namespace {

namespace fe = cudnn_frontend;

// Of NVIDIA's data sheets and the CUDA programming guide's table of compute capabilities.
struct Card {
  const char* name;
  int multiprocessors, shared_bytes, capability;  // capability: 90 is 9.0
  int64_t memory_bytes, cache_bytes;
  int clock_khz, memory_clock_khz;
};
constexpr Card kCards[] = {
    {"NVIDIA A100-SXM4-80GB", 108, 166912, 80, 84929347584, 41943040, 1410000, 1593000},
    {"NVIDIA H100 80GB HBM3", 132, 232448, 90, 84929347584, 52428800, 1980000, 2619000},
    {"NVIDIA B200", 148, 232448, 100, 191514279936, 132644864, 1965000, 3996000}};

std::string text_of(const Card& card) {
  const auto n = [](int64_t value) { return std::to_string(value); };
  return std::string(R"({"deviceName":")") + card.name +
         R"(","maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],)"
         R"("regsPerBlock":65536,"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
         R"("reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,)"
         R"("maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
         R"("supportCoopLaunch":1,"cudaDeviceId":0,"driverVer":13000,)"
         R"("multiProcessorCount":)" +
         n(card.multiprocessors) + R"(,"maxSharedMemoryPerBlockOptin":)" + n(card.shared_bytes) +
         R"(,"totalGlobalMem":)" + n(card.memory_bytes) + R"(,"l2CacheSize":)" +
         n(card.cache_bytes) + R"(,"smClockRateKHz":)" + n(card.clock_khz) +
         R"(,"memClockRateKHz":)" + n(card.memory_clock_khz) + R"(,"deviceVer":)" +
         n(10 * card.capability) + "}";
}

class CudnnPlans : public testing::TestWithParam<Card> {
 protected:
  void SetUp() override {
    // cuDNN wants the driver's library by its name, which that of driver_stub.cc bears.
    if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      dlopen(MEMWALL_DRIVER_STUB, RTLD_NOW | RTLD_GLOBAL);
    }
    fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (fe::cudnn_dlhandle == nullptr) GTEST_SKIP() << "no cuDNN: " << dlerror();
    const std::string text = text_of(GetParam());
    card_ = std::make_shared<fe::DeviceProperties>();
    const auto error = card_->deserialize({text.begin(), text.end()});
    ASSERT_TRUE(error.is_good()) << text;
  }

  void expect_within_plan(AttentionAttributes a, DType dtype, bool backward) const {
    a.scale = 0.125;
    choose_device_calls(a);
    fe::graph::Graph graph;
    graph.set_device_properties(card_);
    graph.set_sm_version(GetParam().capability);
    describe(graph, key_of(a, dtype, backward));  // takes the card over
    const std::string what = std::string(GetParam().name) +
                             (backward ? " backward " : " forward ") + std::string(name_of(dtype)) +
                             ", " + std::to_string(a.samples) + " samples of " +
                             std::to_string(a.time) + ", " + std::to_string(a.heads) +
                             " heads of " + std::to_string(a.size);
    auto error = graph.build({fe::HeurMode_t::A});
    ASSERT_TRUE(error.is_good()) << what << ": " << error.get_message();
    const int64_t planned =
        backward ? device_attention_grad_workspace_bytes(a) : kDeviceAttentionWorkspaceBytes;
    EXPECT_NO_THROW(check_workspace(graph, planned)) << what;
    // The plan is not wide of it either: beside what any call may take, at most twice as much, but
    // on the newest cards, whose backward keeps no scores.
    int64_t asked = 0;
    ASSERT_TRUE(graph.get_workspace_size(asked).is_good());
    if (backward && GetParam().capability < 100) {
      EXPECT_GE(2 * asked, planned - kDeviceAttentionWorkspaceBytes) << what;
    }
  }

  std::shared_ptr<fe::DeviceProperties> card_;
};
void PrintTo(const Card& card, std::ostream* out) {
  *out << card.name;
}

INSTANTIATE_TEST_SUITE_P(Cards, CudnnPlans, testing::ValuesIn(kCards), [](const auto& instance) {
  return "sm_" + std::to_string(instance.param.capability);
});

// GPT-2's sizes, and the edges: heads of 8 to 128, times around tiles, the shortest and a long one.
TEST_P(CudnnPlans, AttentionIsWithinThePlan) {
  const AttentionAttributes shapes[] = {{.samples = 4, .time = 1024, .heads = 12, .size = 64},
                                        {.samples = 16, .time = 1024, .heads = 12, .size = 64},
                                        {.samples = 8, .time = 1024, .heads = 25, .size = 64},
                                        {.samples = 2, .time = 256, .heads = 4, .size = 8},
                                        {.samples = 2, .time = 256, .heads = 4, .size = 72},
                                        {.samples = 2, .time = 256, .heads = 4, .size = 128},
                                        {.samples = 1, .time = 2, .heads = 1, .size = 16},
                                        {.samples = 3, .time = 65, .heads = 3, .size = 32},
                                        {.samples = 1, .time = 129, .heads = 5, .size = 64},
                                        {.samples = 2, .time = 1000, .heads = 6, .size = 64},
                                        {.samples = 1, .time = 8192, .heads = 8, .size = 128},
                                        {.samples = 2, .time = 4096, .heads = 12, .size = 64}};
  for (const AttentionAttributes& shape : shapes) {
    for (bool backward : {false, true}) expect_within_plan(shape, DType::kBF16, backward);
  }
  for (bool backward : {false, true}) expect_within_plan(shapes[0], DType::kF16, backward);
}

}  // namespace
}  // namespace memwall::cuda
