// cuDNN's backend API by itself: what of a descriptor, a graph and a plan is refused, and a small
// graph that is no attention.
#include <cudnn_graph.h>
#include <gtest/gtest.h>

#include "tests/imitated_gpu/test_device.h"

#define EXPECT_DNN(call) EXPECT_EQ(call, CUDNN_STATUS_SUCCESS)

namespace memwall::imitated::test {
namespace {

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    EXPECT_DNN(cudnnBackendCreateDescriptor(type, &handle_));
  }
  ~Descriptor() { cudnnBackendDestroyDescriptor(handle_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  cudnnBackendDescriptor_t get() const { return handle_; }
  template <class Element>
  cudnnStatus_t set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    const std::vector<Element>& elements) {
    return cudnnBackendSetAttribute(handle_, name, type, static_cast<int64_t>(elements.size()),
                                    elements.data());
  }
  cudnnStatus_t set(cudnnBackendAttributeName_t name, const Descriptor& other) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
               std::vector<cudnnBackendDescriptor_t>{other.get()});
  }
  cudnnStatus_t finalize() { return cudnnBackendFinalize(handle_); }

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

using Numbers = std::vector<int64_t>;

// A tensor of FP32, dense, not yet finalized.
std::unique_ptr<Descriptor> open_tensor(int64_t uid, const Numbers& dims, const Numbers& strides) {
  auto tensor = std::make_unique<Descriptor>(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  EXPECT_DNN(tensor->set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE,
                         std::vector<cudnnDataType_t>{CUDNN_DATA_FLOAT}));
  EXPECT_DNN(tensor->set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims));
  EXPECT_DNN(tensor->set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides));
  EXPECT_DNN(tensor->set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, Numbers{uid}));
  EXPECT_DNN(tensor->set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, Numbers{16}));
  return tensor;
}
std::unique_ptr<Descriptor> tensor(int64_t uid, const Numbers& dims, const Numbers& strides) {
  auto made = open_tensor(uid, dims, strides);
  EXPECT_DNN(made->finalize());
  return made;
}

// y = x - b, or what the mode says.
struct Difference {
  Descriptor how{CUDNN_BACKEND_POINTWISE_DESCRIPTOR};
  Descriptor operation{CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR};

  Difference(const Descriptor& x, const Descriptor& b, const Descriptor& y,
             cudnnPointwiseMode_t mode = CUDNN_POINTWISE_SUB) {
    EXPECT_DNN(how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, std::vector{mode}));
    EXPECT_DNN(how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE,
                       std::vector<cudnnDataType_t>{CUDNN_DATA_FLOAT}));
    EXPECT_DNN(how.finalize());
    EXPECT_DNN(operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how));
    EXPECT_DNN(operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x));
    EXPECT_DNN(operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b));
    EXPECT_DNN(operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y));
  }
};

// A plan of a graph of operations.
struct Plan {
  cudnnHandle_t handle = nullptr;
  TestStream stream;
  Descriptor graph{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
  Descriptor heuristics{CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR};
  Descriptor config{CUDNN_BACKEND_ENGINECFG_DESCRIPTOR};
  Descriptor plan{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};

  explicit Plan(const std::vector<cudnnBackendDescriptor_t>& operations) {
    EXPECT_DNN(cudnnCreate(&handle));
    EXPECT_DNN(cudnnSetStream(handle, stream));
    EXPECT_DNN(graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations));
    EXPECT_DNN(graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle}));
  }
  ~Plan() { cudnnDestroy(handle); }

  void build() {
    ASSERT_EQ(graph.finalize(), CUDNN_STATUS_SUCCESS);
    EXPECT_DNN(heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
    EXPECT_DNN(heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE,
                              std::vector<cudnnBackendHeurMode_t>{CUDNN_HEUR_MODE_A}));
    ASSERT_EQ(heuristics.finalize(), CUDNN_STATUS_SUCCESS);
    int64_t count = 0;
    cudnnBackendDescriptor_t result = config.get();
    EXPECT_DNN(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &result));
    EXPECT_EQ(count, 1);
    EXPECT_DNN(plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config));
    ASSERT_EQ(plan.finalize(), CUDNN_STATUS_SUCCESS);
  }
  cudnnStatus_t execute(const Numbers& uids, const std::vector<void*>& pointers) {
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    EXPECT_DNN(pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, uids));
    EXPECT_DNN(pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers));
    if (const cudnnStatus_t status = pack.finalize()) return status;
    return cudnnBackendExecute(handle, plan.get(), pack.get());
  }
};

TEST(ImitatedCudnnDescriptors, AreSetAsTheyAreDocumented) {
  Descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const Numbers one = {1}, none;
  EXPECT_EQ(tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT32, std::vector<int32_t>{1}),
            CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
  EXPECT_EQ(tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, Numbers{1, 2}),
            CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND);
  EXPECT_EQ(tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, none),
            CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND);
  EXPECT_EQ(cudnnBackendSetAttribute(tensor.get(), CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1,
                                     nullptr),
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_NE(tensor.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, one),
            CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(tensor.finalize(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(cudnnBackendFinalize(nullptr), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_EQ(cudnnBackendFinalize(&tensor), CUDNN_STATUS_BAD_PARAM);
  char text[64];
  cudnnGetLastErrorString(text, sizeof(text));
  EXPECT_NE(std::string(text), "");
}

TEST(ImitatedCudnnDescriptors, AreSetBeforeAndReadAfterTheyAreFinalized) {
  const auto made = open_tensor(1, {1, 2, 3}, {6, 3, 1});
  int64_t uid = 0, count = 0;
  const auto read = [&] {
    return cudnnBackendGetAttribute(made->get(), CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1,
                                    &count, &uid);
  };
  EXPECT_EQ(read(), CUDNN_STATUS_NOT_INITIALIZED);
  Descriptor operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  EXPECT_EQ(operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *made),
            CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
  EXPECT_EQ(operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, operation),
            CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE);
  EXPECT_DNN(made->finalize());
  EXPECT_DNN(read());
  EXPECT_EQ(uid, 1);
  EXPECT_EQ(made->set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, Numbers{2}),
            CUDNN_STATUS_NOT_INITIALIZED);
}

TEST(ImitatedCudnnDescriptors, TensorsHaveAsManyStridesAsLengths) {
  EXPECT_EQ(open_tensor(1, {1, 2, 3}, {3, 1})->finalize(), CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  EXPECT_EQ(open_tensor(1, {1, 0, 3}, {3, 3, 1})->finalize(),
            CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
}

TEST(ImitatedCudnnGraphs, ComputeWhatTheySay) {
  use({Order::kLate, 0});
  const auto x = tensor(1, {1, 2, 3}, {6, 3, 1}), b = tensor(2, {1, 2, 1}, {2, 1, 1});
  const auto y = tensor(3, {1, 2, 3}, {12, 1, 4});
  Difference difference(*x, *b, *y);
  EXPECT_DNN(difference.operation.finalize());
  Plan plan({difference.operation.get()});
  plan.build();
  const DeviceArray<float> x_values{1, 2, 3, 4, 5, 6}, b_values{10, 20};
  const DeviceArray<float> y_values(std::vector<float>(12, -1.0f));
  EXPECT_DNN(plan.execute({1, 2, 3}, {x_values.get(), b_values.get(), y_values.get()}));
  EXPECT_EQ(y_values.read()[0], -1.0f);
  plan.stream.synchronize();
  EXPECT_EQ(y_values.read(),
            (std::vector<float>{-9, -16, -1, -1, -8, -15, -1, -1, -7, -14, -1, -1}));
}

TEST(ImitatedCudnnGraphs, TakeOneNumberOfTheHostByValue) {
  const auto x = tensor(1, {1, 1, 2}, {2, 2, 1}), y = tensor(3, {1, 1, 2}, {2, 2, 1});
  const auto scale = open_tensor(2, {1, 1, 1}, {1, 1, 1});
  EXPECT_DNN(scale->set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, std::vector<char>{1}));
  EXPECT_DNN(scale->finalize());
  Difference product(*x, *scale, *y, CUDNN_POINTWISE_MUL);
  EXPECT_DNN(product.operation.finalize());
  Plan plan({product.operation.get()});
  plan.build();
  const DeviceArray<float> x_values{1, 2}, y_values{0, 0};
  float factor = 3.0f;
  EXPECT_DNN(plan.execute({1, 2, 3}, {x_values.get(), &factor, y_values.get()}));
  factor = 5.0f;  // it was read by the call
  plan.stream.synchronize();
  EXPECT_EQ(y_values.read(), (std::vector<float>{3, 6}));
  EXPECT_NE(plan.execute({1, 2, 3}, {x_values.get(), x_values.get(), y_values.get()}),
            CUDNN_STATUS_SUCCESS);
}

TEST(ImitatedCudnnGraphs, RefuseShapesThatDoNotFit) {
  const auto x = tensor(1, {1, 2, 3}, {6, 3, 1}), b = tensor(2, {1, 2, 2}, {4, 2, 1});
  Difference difference(*x, *b, *x);
  EXPECT_EQ(difference.operation.finalize(), CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  Descriptor turned(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  const auto y = tensor(3, {1, 3, 2}, {6, 2, 1});
  EXPECT_DNN(turned.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *x));
  EXPECT_DNN(turned.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, *y));
  EXPECT_EQ(turned.finalize(), CUDNN_STATUS_NOT_SUPPORTED_LAYOUT);
}

TEST(ImitatedCudnnGraphs, RefuseTwoTensorsOfOneNumberAndCircles) {
  const Numbers dims = {1, 1, 2}, strides = {2, 2, 1};
  const auto x = tensor(1, dims, strides), y = tensor(2, dims, strides);
  const auto other = tensor(1, dims, {4, 4, 2});
  Difference first(*x, *x, *y), doubled(*other, *x, *y), back(*y, *y, *x);
  for (Difference* difference : {&first, &doubled, &back}) {
    EXPECT_DNN(difference->operation.finalize());
  }
  EXPECT_EQ(Plan({doubled.operation.get()}).graph.finalize(),
            CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
  EXPECT_EQ(Plan({first.operation.get(), back.operation.get()}).graph.finalize(),
            CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(Plan({first.operation.get(), first.operation.get()}).graph.finalize(),
            CUDNN_STATUS_BAD_PARAM);
}

TEST(ImitatedCudnnPlans, RefuseVariantPacksThatDoNotFit) {
  const auto x = tensor(1, {1, 1, 2}, {2, 2, 1}), y = tensor(3, {1, 1, 2}, {2, 2, 1});
  Difference difference(*x, *x, *y);
  EXPECT_DNN(difference.operation.finalize());
  Plan plan({difference.operation.get()});
  plan.build();
  const DeviceArray<float> values{1, 2, 3, 4, 5, 6, 7, 8}, result(2);
  float on_host[4] = {};
  EXPECT_EQ(plan.execute({1}, {values.get()}), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(plan.execute({1, 1}, {values.get(), values.get()}),
            CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
  EXPECT_EQ(plan.execute({1, 3}, {values.get()}), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(plan.execute({1, 3}, {values.get(), nullptr}), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_EQ(plan.execute({1, 3}, {values.get() + 1, result.get()}),
            CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  EXPECT_EQ(plan.execute({1, 3}, {on_host, result.get()}), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(plan.execute({1, 3}, {values.get() + 8, result.get()}), CUDNN_STATUS_BAD_PARAM);
  EXPECT_DNN(plan.execute({1, 3}, {values.get() + 4, result.get()}));
  plan.stream.synchronize();
}

// As a kernel that reads what was freed meanwhile: the device is lost.
TEST(ImitatedCudnnPlans, LoseTheDeviceOverMemoryThatIsFreedBeforeTheyRun) {
  use({Order::kLate, 0});
  const auto x = tensor(1, {1, 1, 2}, {2, 2, 1}), y = tensor(3, {1, 1, 2}, {2, 2, 1});
  Difference difference(*x, *x, *y);
  EXPECT_DNN(difference.operation.finalize());
  Plan plan({difference.operation.get()});
  plan.build();
  const DeviceArray<float> result(2);
  {
    const DeviceArray<float> values{1, 2};
    EXPECT_DNN(plan.execute({1, 3}, {values.get(), result.get()}));
    process().memory.release(values.get(), Place::kDevice);
  }
  EXPECT_EQ(cudaStreamSynchronize(plan.stream), cudaErrorIllegalAddress);
  revive();
}

}  // namespace
}  // namespace memwall::imitated::test
