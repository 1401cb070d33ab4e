// An operation graph of cuDNN's backend API as a list of nodes on tensors, what is asked of it
// before it may run, and its interpreter. Nothing here knows what a graph computes: a node does
// what its descriptors say.
#pragma once

#include <cudnn_graph.h>

#include <map>
#include <memory>
#include <vector>

namespace memwall::imitated {

struct DnnContent;

struct DnnTensor {
  int64_t uid = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::vector<int64_t> dims, strides;  // strides in elements
  int64_t alignment = 1;               // bytes
  bool is_virtual = false;             // has no memory
  bool by_value = false;               // lies in host memory

  bool operator==(const DnnTensor&) const = default;
  int64_t count() const;
  size_t bytes() const;  // from the first element to the end of the last
};

enum class DnnKind { kMatmul, kPointwise, kReduction, kReshape };

struct DnnNode {
  DnnKind kind = DnnKind::kPointwise;
  cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;
  cudnnReduceTensorOp_t reduction = CUDNN_REDUCE_TENSOR_ADD;
  int64_t axis = -1;  // of an index
  double alpha1 = 1.0, alpha2 = 1.0;
  std::vector<int> inputs;  // matmul: A, B; pointwise: X, B, T
  int output = -1;
};

struct DnnGraph {
  std::vector<DnnTensor> tensors;
  std::vector<DnnNode> nodes;  // producers come before consumers
  int device = 0;              // of the handle
};

size_t element_bytes(cudnnDataType_t type);

// What the finalizing of a descriptor checks, apart from what must be set.
DnnTensor tensor_of(const DnnContent& tensor);
void check_operation(const DnnContent& operation);
std::shared_ptr<const DnnGraph> graph_of(const DnnContent& operation_graph);
// For axis i of `to` the axis of `from` with the same length and stride. Empty: `to` is no
// transposition of the same memory.
std::vector<int> transposition(const DnnTensor& from, const DnnTensor& to);

// What an engine says of a graph: refuses what no engine takes.
void check_support(const DnnGraph& graph);
int64_t workspace_bytes(const DnnGraph& graph);
bool is_deterministic(const DnnGraph& graph);

// Pointers by tensor (null: virtual); the values of those by value. Reads and writes memory.
struct DnnBinding {
  std::vector<void*> pointers;
  std::vector<double> scalars;
};
double read_scalar(cudnnDataType_t type, const void* pointer);
void run(const DnnGraph& graph, const DnnBinding& binding);

}  // namespace memwall::imitated
