#include "tests/imitated_gpu/cudnn_graph.h"

#include <algorithm>

#include "tests/imitated_gpu/cudnn_descriptors.h"

namespace memwall::imitated {
namespace {

bool is_float(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF ||
         type == CUDNN_DATA_BFLOAT16;
}
bool is_whole(cudnnDataType_t type) {
  return type == CUDNN_DATA_INT32 || type == CUDNN_DATA_INT64 || type == CUDNN_DATA_BOOLEAN;
}

std::string text(const DnnTensor& tensor) {
  std::string dims;
  for (const int64_t dim : tensor.dims) dims += (dims.empty() ? "" : ", ") + std::to_string(dim);
  return "tensor " + std::to_string(tensor.uid) + " {" + dims + "}";
}

[[noreturn]] void refuse_shape(const char* what, const DnnTensor& tensor) {
  refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, std::string(what) + ": " + text(tensor));
}

// Whether `tensor` may stand where `dims` are wanted: each of its lengths is that one, or 1.
bool broadcasts(const DnnTensor& tensor, const std::vector<int64_t>& dims) {
  if (tensor.dims.size() != dims.size()) return false;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (tensor.dims[i] != dims[i] && tensor.dims[i] != 1) return false;
  }
  return true;
}

int inputs_of(cudnnPointwiseMode_t mode) {
  switch (mode) {
    case CUDNN_POINTWISE_ABS:
    case CUDNN_POINTWISE_EXP:
    case CUDNN_POINTWISE_LOG:
    case CUDNN_POINTWISE_NEG:
    case CUDNN_POINTWISE_SQRT:
    case CUDNN_POINTWISE_RSQRT:
    case CUDNN_POINTWISE_RECIPROCAL:
    case CUDNN_POINTWISE_IDENTITY:
    case CUDNN_POINTWISE_LOGICAL_NOT:
    case CUDNN_POINTWISE_GEN_INDEX: return 1;
    case CUDNN_POINTWISE_ADD:
    case CUDNN_POINTWISE_SUB:
    case CUDNN_POINTWISE_MUL:
    case CUDNN_POINTWISE_DIV:
    case CUDNN_POINTWISE_MAX:
    case CUDNN_POINTWISE_MIN:
    case CUDNN_POINTWISE_CMP_EQ:
    case CUDNN_POINTWISE_CMP_NEQ:
    case CUDNN_POINTWISE_CMP_GT:
    case CUDNN_POINTWISE_CMP_GE:
    case CUDNN_POINTWISE_CMP_LT:
    case CUDNN_POINTWISE_CMP_LE:
    case CUDNN_POINTWISE_LOGICAL_AND:
    case CUDNN_POINTWISE_LOGICAL_OR: return 2;
    case CUDNN_POINTWISE_BINARY_SELECT: return 3;
    default:
      refuse(CUDNN_STATUS_NOT_SUPPORTED,
             "pointwise mode " + std::to_string(mode) + " is not imitated");
  }
}

void check_matmul(const DnnTensor& a, const DnnTensor& b, const DnnTensor& c) {
  const size_t rank = c.dims.size();
  if (rank < 3 || a.dims.size() != rank || b.dims.size() != rank) refuse_shape("matmul", c);
  std::vector<int64_t> a_dims = c.dims, b_dims = c.dims;
  a_dims[rank - 1] = b_dims[rank - 2] = a.dims[rank - 1];
  const bool exact = a.dims[rank - 2] == c.dims[rank - 2] && b.dims[rank - 1] == c.dims[rank - 1] &&
                     b.dims[rank - 2] == a.dims[rank - 1];
  if (!exact || !broadcasts(a, a_dims)) refuse_shape("matmul: A", a);
  if (!broadcasts(b, b_dims)) refuse_shape("matmul: B", b);
}

// A node on the tensors of an operation's descriptor, and those tensors.
struct Operation {
  DnnNode node;
  std::vector<DnnTensor> inputs;
  DnnTensor output;
};

void add(Operation& operation, const DnnContent& content, cudnnBackendAttributeName_t name) {
  const DnnContentPtr tensor = get_descriptor(content, name);
  if (tensor != nullptr) operation.inputs.push_back(tensor_of(*tensor));
}

Operation matmul_of(const DnnContent& content) {
  Operation operation;
  operation.node.kind = DnnKind::kMatmul;
  operation.node.compute = get<cudnnDataType_t>(
      *get_descriptor(content, CUDNN_ATTR_OPERATION_MATMUL_DESC), CUDNN_ATTR_MATMUL_COMP_TYPE);
  add(operation, content, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
  add(operation, content, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
  operation.output = tensor_of(*get_descriptor(content, CUDNN_ATTR_OPERATION_MATMUL_CDESC));
  check_matmul(operation.inputs[0], operation.inputs[1], operation.output);
  return operation;
}

double alpha_of(const DnnContent& content, cudnnBackendAttributeName_t name) {
  const auto found = content.values.find(name);
  if (found == content.values.end()) return 1.0;
  return found->second.type == CUDNN_TYPE_DOUBLE ? get<double>(content, name)
                                                 : double{get<float>(content, name)};
}

Operation pointwise_of(const DnnContent& content) {
  Operation operation;
  DnnNode& node = operation.node;
  const DnnContent& how = *get_descriptor(content, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  node.kind = DnnKind::kPointwise;
  node.mode = get<cudnnPointwiseMode_t>(how, CUDNN_ATTR_POINTWISE_MODE);
  node.compute = get<cudnnDataType_t>(how, CUDNN_ATTR_POINTWISE_MATH_PREC);
  node.axis = get<int64_t>(how, CUDNN_ATTR_POINTWISE_AXIS, -1);
  node.alpha1 = alpha_of(content, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1);
  node.alpha2 = alpha_of(content, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2);
  add(operation, content, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
  add(operation, content, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
  add(operation, content, CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
  operation.output = tensor_of(*get_descriptor(content, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
  const int wanted = inputs_of(node.mode);
  const bool hole = get_descriptor(content, CUDNN_ATTR_OPERATION_POINTWISE_BDESC) == nullptr &&
                    get_descriptor(content, CUDNN_ATTR_OPERATION_POINTWISE_TDESC) != nullptr;
  if (hole || static_cast<int>(operation.inputs.size()) != wanted) {
    refuse(CUDNN_STATUS_BAD_PARAM, "pointwise mode " + std::to_string(node.mode) + " takes " +
                                       std::to_string(wanted) + " inputs");
  }
  for (const DnnTensor& input : operation.inputs) {
    if (!broadcasts(input, operation.output.dims)) refuse_shape("pointwise: an input", input);
  }
  const auto rank = static_cast<int64_t>(operation.output.dims.size());
  if (node.mode == CUDNN_POINTWISE_GEN_INDEX && (node.axis < 0 || node.axis >= rank)) {
    refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "CUDNN_ATTR_POINTWISE_AXIS");
  }
  return operation;
}

Operation reduction_of(const DnnContent& content) {
  Operation operation;
  const DnnContent& how = *get_descriptor(content, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
  operation.node.kind = DnnKind::kReduction;
  operation.node.reduction = get<cudnnReduceTensorOp_t>(how, CUDNN_ATTR_REDUCTION_OPERATOR);
  operation.node.compute = get<cudnnDataType_t>(how, CUDNN_ATTR_REDUCTION_COMP_TYPE);
  add(operation, content, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
  operation.output = tensor_of(*get_descriptor(content, CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
  const cudnnReduceTensorOp_t op = operation.node.reduction;
  if (op != CUDNN_REDUCE_TENSOR_ADD && op != CUDNN_REDUCE_TENSOR_MAX &&
      op != CUDNN_REDUCE_TENSOR_MIN) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED, "reduction " + std::to_string(op) + " is not imitated");
  }
  if (!broadcasts(operation.output, operation.inputs[0].dims)) {
    refuse_shape("reduction: Y", operation.output);
  }
  return operation;
}

Operation reshape_of(const DnnContent& content) {
  Operation operation;
  operation.node.kind = DnnKind::kReshape;
  add(operation, content, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
  operation.output = tensor_of(*get_descriptor(content, CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
  if (operation.output.count() != operation.inputs[0].count()) {
    refuse_shape("reshape: Y", operation.output);
  }
  if (transposition(operation.inputs[0], operation.output).empty()) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT,
           "a reshape that is no transposition of the same memory: " + text(operation.output));
  }
  return operation;
}

Operation operation_of(const DnnContent& content) {
  Operation operation;
  switch (content.type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: operation = matmul_of(content); break;
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: operation = pointwise_of(content); break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: operation = reduction_of(content); break;
    default: operation = reshape_of(content); break;
  }
  const cudnnDataType_t compute = operation.node.compute;
  const bool computes = compute == CUDNN_DATA_FLOAT || compute == CUDNN_DATA_DOUBLE ||
                        (operation.node.kind == DnnKind::kPointwise && is_whole(compute));
  if (!computes) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
           "computing in data type " + std::to_string(compute) + " is not imitated");
  }
  if (operation.output.by_value) {
    refuse(CUDNN_STATUS_BAD_PARAM, "an output is passed by value: " + text(operation.output));
  }
  for (size_t i = 0; i < operation.output.dims.size(); ++i) {
    if (operation.output.dims[i] > 1 && operation.output.strides[i] == 0) {
      refuse(CUDNN_STATUS_BAD_PARAM, "elements of an output overlap: " + text(operation.output));
    }
  }
  return operation;
}

int number_of(DnnGraph& graph, const DnnTensor& tensor) {
  for (size_t i = 0; i < graph.tensors.size(); ++i) {
    if (graph.tensors[i].uid != tensor.uid) continue;
    if (graph.tensors[i] == tensor) return static_cast<int>(i);
    refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
           "two tensors have the unique id " + std::to_string(tensor.uid));
  }
  graph.tensors.push_back(tensor);
  return static_cast<int>(graph.tensors.size()) - 1;
}

// Producers before consumers.
void sort(DnnGraph& graph) {
  std::vector<int> producers(graph.tensors.size(), 0);
  for (const DnnNode& node : graph.nodes) {
    if (++producers[node.output] > 1) {
      refuse(CUDNN_STATUS_BAD_PARAM, "two operations write " + text(graph.tensors[node.output]));
    }
  }
  std::vector<bool> ready(graph.tensors.size());
  for (size_t i = 0; i < ready.size(); ++i) {
    ready[i] = producers[i] == 0;
    if (ready[i] && graph.tensors[i].is_virtual) {
      refuse(CUDNN_STATUS_BAD_PARAM, "no operation writes the virtual " + text(graph.tensors[i]));
    }
  }
  std::vector<DnnNode> sorted, waiting = std::move(graph.nodes);
  while (!waiting.empty()) {
    std::vector<DnnNode> later;
    for (DnnNode& node : waiting) {
      const bool runs = std::all_of(node.inputs.begin(), node.inputs.end(),
                                    [&](int input) { return ready[input]; });
      if (runs) ready[node.output] = true;
      (runs ? sorted : later).push_back(node);
    }
    if (later.size() == waiting.size()) {
      refuse(CUDNN_STATUS_BAD_PARAM, "the operations depend on each other in a circle");
    }
    waiting = std::move(later);
  }
  graph.nodes = std::move(sorted);
}

}  // namespace

int64_t DnnTensor::count() const {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

size_t DnnTensor::bytes() const {
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
  return static_cast<size_t>(last + 1) * element_bytes(type);
}

size_t element_bytes(cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_DOUBLE:
    case CUDNN_DATA_INT64: return 8;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16: return 2;
    case CUDNN_DATA_BOOLEAN: return 1;
    default: return 4;
  }
}

DnnTensor tensor_of(const DnnContent& content) {
  DnnTensor tensor;
  tensor.uid = get<int64_t>(content, CUDNN_ATTR_TENSOR_UNIQUE_ID);
  tensor.type = get<cudnnDataType_t>(content, CUDNN_ATTR_TENSOR_DATA_TYPE);
  tensor.dims = get_all<int64_t>(content, CUDNN_ATTR_TENSOR_DIMENSIONS);
  tensor.strides = get_all<int64_t>(content, CUDNN_ATTR_TENSOR_STRIDES);
  tensor.alignment = get<int64_t>(content, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
  tensor.is_virtual = get<bool>(content, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
  tensor.by_value = get<bool>(content, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
  const auto all = [](const std::vector<int64_t>& numbers, int64_t least) {
    return std::all_of(numbers.begin(), numbers.end(), [=](int64_t n) { return n >= least; });
  };
  if (tensor.dims.empty() || tensor.dims.size() != tensor.strides.size() || !all(tensor.dims, 1) ||
      !all(tensor.strides, 0)) {
    refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "lengths and strides of " + text(tensor));
  }
  if (!is_float(tensor.type) && !is_whole(tensor.type)) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
           "data type " + std::to_string(tensor.type) + " is not imitated");
  }
  const int64_t alignment = tensor.alignment;
  if (alignment < 1 || (alignment & (alignment - 1)) != 0 ||
      alignment % static_cast<int64_t>(element_bytes(tensor.type)) != 0) {
    refuse(CUDNN_STATUS_BAD_PARAM, "the alignment of " + text(tensor));
  }
  if (tensor.by_value && (tensor.is_virtual || tensor.count() != 1)) {
    refuse(CUDNN_STATUS_BAD_PARAM, "by value, but not one number of the host: " + text(tensor));
  }
  if (get<int64_t>(content, CUDNN_ATTR_TENSOR_VECTOR_COUNT, 1) != 1 ||
      get<int32_t>(content, CUDNN_ATTR_TENSOR_REORDERING_MODE) != CUDNN_TENSOR_REORDERING_NONE) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "vectors and reordering are not imitated");
  }
  return tensor;
}

void check_operation(const DnnContent& operation) {
  operation_of(operation);
}

std::shared_ptr<const DnnGraph> graph_of(const DnnContent& content) {
  auto graph = std::make_shared<DnnGraph>();
  for (const DnnContentPtr& content_of_operation :
       get_descriptors(content, CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
    Operation operation = operation_of(*content_of_operation);
    for (const DnnTensor& input : operation.inputs) {
      operation.node.inputs.push_back(number_of(*graph, input));
    }
    operation.node.output = number_of(*graph, operation.output);
    graph->nodes.push_back(std::move(operation.node));
  }
  if (graph->nodes.empty()) refuse(CUDNN_STATUS_BAD_PARAM, "a graph without operations");
  sort(*graph);
  return graph;
}

std::vector<int> transposition(const DnnTensor& from, const DnnTensor& to) {
  const size_t rank = from.dims.size();
  if (to.dims.size() != rank) return {};
  std::vector<int> axes;
  std::vector<bool> used(rank);
  for (size_t i = 0; i < rank; ++i) {
    size_t axis = 0;
    while (axis < rank && (used[axis] || from.dims[axis] != to.dims[i] ||
                           (to.dims[i] > 1 && from.strides[axis] != to.strides[i]))) {
      ++axis;
    }
    if (axis == rank) return {};
    used[axis] = true;
    axes.push_back(static_cast<int>(axis));
  }
  return axes;
}

}  // namespace memwall::imitated
