// What an engine of the imitated cuDNN says of a graph. A graph with more than one product counts
// as fused attention, by cuDNN's documentation of that pattern: operands of 16 bits, all of one
// type, heads of at most 256 elements, a multiple of 8, next to each other in memory, on compute
// capability 8.0 or newer.
#include <algorithm>

#include "tests/imitated_gpu/cudnn_descriptors.h"
#include "tests/imitated_gpu/cudnn_graph.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

constexpr int64_t kMostHead = 256;
constexpr int64_t kHeadMultiple = 8;

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::vector<const DnnNode*> products_of(const DnnGraph& graph) {
  std::vector<const DnnNode*> products;
  for (const DnnNode& node : graph.nodes) {
    if (node.kind == DnnKind::kMatmul) products.push_back(&node);
  }
  return products;
}

bool is_narrow(cudnnDataType_t type) {
  return type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16;
}

// An operand in memory of a product of attention.
void check_operand(const DnnTensor& tensor) {
  const std::string name = "tensor " + std::to_string(tensor.uid);
  if (tensor.dims.size() != 4) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "attention: " + name + " has not four axes");
  }
  const bool last_is_dense = tensor.strides[3] == 1, rows_are_dense = tensor.strides[2] == 1;
  if (!last_is_dense && !rows_are_dense) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT,
           "attention: the elements of a head of " + name + " do not lie next to each other");
  }
  const int64_t head = last_is_dense ? tensor.dims[3] : tensor.dims[2];
  if (head > kMostHead || head % kHeadMultiple != 0) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "attention: the heads of " + name + " have " +
                                                 std::to_string(head) +
                                                 " elements; allowed are multiples of 8 up to 256");
  }
}

// The sum that several blocks of threads add to: FP32, in memory, and read by another operation.
bool is_accumulator(const DnnGraph& graph, int number) {
  const DnnTensor& tensor = graph.tensors[number];
  if (tensor.is_virtual || tensor.type != CUDNN_DATA_FLOAT) return false;
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const DnnNode& node) {
    return std::find(node.inputs.begin(), node.inputs.end(), number) != node.inputs.end();
  });
}

}  // namespace

void check_support(const DnnGraph& graph) {
  if (settings().arch < 80) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "graphs need compute capability 8.0");
  }
  const std::vector<const DnnNode*> products = products_of(graph);
  if (products.size() < 2) return;
  cudnnDataType_t narrow = CUDNN_DATA_FLOAT;
  const auto check_type = [&](const DnnTensor& tensor) {
    if (!is_narrow(tensor.type) || (is_narrow(narrow) && tensor.type != narrow)) {
      refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
             "attention: tensor " + std::to_string(tensor.uid) + " has data type " +
                 std::to_string(tensor.type) + "; all must be FP16, or all BF16");
    }
    narrow = tensor.type;
  };
  for (const DnnNode* product : products) {
    if (product->compute != CUDNN_DATA_FLOAT) {
      refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "attention: products are computed in FP32");
    }
    std::vector<int> numbers = product->inputs;
    if (!is_accumulator(graph, product->output)) numbers.push_back(product->output);
    for (const int number : numbers) {
      const DnnTensor& tensor = graph.tensors[number];
      if (tensor.is_virtual) continue;
      check_type(tensor);
      check_operand(tensor);
    }
  }
}

bool is_deterministic(const DnnGraph& graph) {
  for (const DnnNode* product : products_of(graph)) {
    if (is_accumulator(graph, product->output)) return false;
  }
  return true;
}

// The gradient of attention without an accumulator keeps dP, 16 bits a score, in blocks of 64 rows
// and 128 columns. The rest needs little.
int64_t workspace_bytes(const DnnGraph& graph) {
  const std::vector<const DnnNode*> products = products_of(graph);
  int64_t bytes = settings().cudnn_extra_workspace;
  if (products.size() < 3) return bytes;
  const DnnTensor& scores = graph.tensors[products.front()->output];
  if (scores.dims.size() != 4) return bytes;
  const int64_t heads = scores.dims[0] * scores.dims[1];
  const int64_t rows = round_up(scores.dims[2], 64), columns = round_up(scores.dims[3], 128);
  return bytes + (is_deterministic(graph) ? heads * rows * columns * 2 : heads * rows * 4);
}

}  // namespace memwall::imitated
