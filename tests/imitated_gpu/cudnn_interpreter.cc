// The interpreter of cuDNN's operation graphs. Values are held in double precision, dense and
// row-major; sums run in double precision, in order. What an operation gives is rounded to the type
// it computes in, then to the type of its output, also of one without memory.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "tests/imitated_gpu/cudnn_graph.h"
#include "tests/imitated_gpu/numbers.h"

namespace memwall::imitated {
namespace {

using Values = std::vector<double>;
using Strides = std::vector<int64_t>;

Strides dense(const std::vector<int64_t>& dims) {
  Strides strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0; stride *= dims[i]) strides[i] = stride;
  return strides;
}

// Dense strides of `tensor`, 0 where its one element stands for all.
Strides broadcast(const DnnTensor& tensor) {
  Strides strides = dense(tensor.dims);
  for (size_t i = 0; i < strides.size(); ++i) {
    if (tensor.dims[i] == 1) strides[i] = 0;
  }
  return strides;
}

// visit(offset under strides[0], offset under strides[1], ...) for every index, row by row.
template <size_t kCount, class Visit>
void walk(const std::vector<int64_t>& dims, const std::array<Strides, kCount>& strides,
          Visit visit) {
  const size_t rank = dims.size();
  std::vector<int64_t> index(rank, 0);
  std::array<int64_t, kCount> offsets{};
  for (;;) {
    visit(offsets);
    size_t axis = rank;
    while (axis-- > 0) {
      for (size_t i = 0; i < kCount; ++i) offsets[i] += strides[i][axis];
      if (++index[axis] < dims[axis]) break;
      for (size_t i = 0; i < kCount; ++i) offsets[i] -= strides[i][axis] * dims[axis];
      index[axis] = 0;
      if (axis == 0) return;
    }
  }
}

double rounded(cudnnDataType_t type, double value) {
  switch (type) {
    case CUDNN_DATA_FLOAT: return static_cast<float>(value);
    case CUDNN_DATA_HALF: return static_cast<double>(static_cast<Half>(static_cast<float>(value)));
    case CUDNN_DATA_BFLOAT16: return static_cast<float>(BFloat16(static_cast<float>(value)));
    case CUDNN_DATA_INT32:
    case CUDNN_DATA_INT64: return std::trunc(value);
    case CUDNN_DATA_BOOLEAN: return value != 0.0 ? 1.0 : 0.0;
    default: return value;
  }
}

template <class Element>
double read_as(const void* pointer) {
  Element element;
  std::memcpy(&element, pointer, sizeof(element));
  if constexpr (std::is_same_v<Element, BFloat16>) {
    return static_cast<float>(element);
  } else {
    return static_cast<double>(element);
  }
}

template <class Element>
void write_as(void* pointer, double value) {
  Element element;
  if constexpr (std::is_same_v<Element, BFloat16> || std::is_same_v<Element, Half>) {
    element = static_cast<Element>(static_cast<float>(value));
  } else {
    element = static_cast<Element>(value);
  }
  std::memcpy(pointer, &element, sizeof(element));
}

void write_scalar(cudnnDataType_t type, void* pointer, double value) {
  switch (type) {
    case CUDNN_DATA_FLOAT: return write_as<float>(pointer, value);
    case CUDNN_DATA_DOUBLE: return write_as<double>(pointer, value);
    case CUDNN_DATA_HALF: return write_as<Half>(pointer, value);
    case CUDNN_DATA_BFLOAT16: return write_as<BFloat16>(pointer, value);
    case CUDNN_DATA_INT64: return write_as<int64_t>(pointer, value);
    case CUDNN_DATA_BOOLEAN: return write_as<bool>(pointer, value);
    default: return write_as<int32_t>(pointer, value);
  }
}

Values load(const DnnTensor& tensor, const void* pointer) {
  Values values(static_cast<size_t>(tensor.count()));
  const size_t bytes = element_bytes(tensor.type);
  const auto* base = static_cast<const std::byte*>(pointer);
  walk<2>(tensor.dims, {dense(tensor.dims), tensor.strides}, [&](const auto& at) {
    values[at[0]] = read_scalar(tensor.type, base + static_cast<size_t>(at[1]) * bytes);
  });
  return values;
}

void store(const DnnTensor& tensor, const Values& values, void* pointer) {
  const size_t bytes = element_bytes(tensor.type);
  auto* base = static_cast<std::byte*>(pointer);
  walk<2>(tensor.dims, {dense(tensor.dims), tensor.strides}, [&](const auto& at) {
    write_scalar(tensor.type, base + static_cast<size_t>(at[1]) * bytes, values[at[0]]);
  });
}

double apply(cudnnPointwiseMode_t mode, double x, double b, double t) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_MAX: return std::isnan(x) || x > b ? x : b;
    case CUDNN_POINTWISE_MIN: return std::isnan(x) || x < b ? x : b;
    case CUDNN_POINTWISE_ABS: return std::fabs(x);
    case CUDNN_POINTWISE_EXP: return std::exp(x);
    case CUDNN_POINTWISE_LOG: return std::log(x);
    case CUDNN_POINTWISE_NEG: return -x;
    case CUDNN_POINTWISE_SQRT: return std::sqrt(x);
    case CUDNN_POINTWISE_RSQRT: return 1.0 / std::sqrt(x);
    case CUDNN_POINTWISE_RECIPROCAL: return 1.0 / x;
    case CUDNN_POINTWISE_CMP_EQ: return x == b;
    case CUDNN_POINTWISE_CMP_NEQ: return x != b;
    case CUDNN_POINTWISE_CMP_GT: return x > b;
    case CUDNN_POINTWISE_CMP_GE: return x >= b;
    case CUDNN_POINTWISE_CMP_LT: return x < b;
    case CUDNN_POINTWISE_CMP_LE: return x <= b;
    case CUDNN_POINTWISE_LOGICAL_AND: return x != 0.0 && b != 0.0;
    case CUDNN_POINTWISE_LOGICAL_OR: return x != 0.0 || b != 0.0;
    case CUDNN_POINTWISE_LOGICAL_NOT: return x == 0.0;
    case CUDNN_POINTWISE_BINARY_SELECT: return t != 0.0 ? x : b;
    default: return x;  // identity
  }
}

class Run {
 public:
  Run(const DnnGraph& graph, const DnnBinding& binding)
      : graph_(graph), binding_(binding), values_(graph.tensors.size()) {}

  void all() {
    std::vector<size_t> last_use(graph_.tensors.size(), 0);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const int input : graph_.nodes[i].inputs) last_use[input] = i;
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const DnnNode& node = graph_.nodes[i];
      one(node);
      for (const int input : node.inputs) {
        if (last_use[input] == i) Values().swap(values_[input]);
      }
    }
  }

 private:
  const DnnTensor& tensor(int number) const { return graph_.tensors[number]; }

  // An input; from memory, as it is now, where it has memory.
  const Values& input(int number) {
    const DnnTensor& t = tensor(number);
    if (t.by_value) {
      values_[number] = {binding_.scalars[number]};
    } else if (!t.is_virtual) {
      values_[number] = load(t, binding_.pointers[number]);
    }
    return values_[number];
  }

  void one(const DnnNode& node) {
    Values result;
    switch (node.kind) {
      case DnnKind::kMatmul: result = matmul(node); break;
      case DnnKind::kPointwise: result = pointwise(node); break;
      case DnnKind::kReduction: result = reduction(node); break;
      case DnnKind::kReshape: result = reshape(node); break;
    }
    const DnnTensor& output = tensor(node.output);
    const bool computes = node.kind != DnnKind::kReshape;
    for (double& value : result) {
      if (computes) value = rounded(node.compute, value);
      value = rounded(output.type, value);
    }
    if (output.is_virtual) {
      values_[node.output] = std::move(result);
    } else {
      store(output, result, binding_.pointers[node.output]);
    }
  }

  Values matmul(const DnnNode& node) {
    const Values& a = input(node.inputs[0]);
    const Values& b = input(node.inputs[1]);
    const DnnTensor& c = tensor(node.output);
    const size_t rank = c.dims.size();
    const int64_t m = c.dims[rank - 2], n = c.dims[rank - 1];
    const int64_t k = tensor(node.inputs[0]).dims[rank - 1];
    std::vector<int64_t> batches(c.dims.begin(), c.dims.end() - 2);
    const auto batch_strides = [&](Strides strides) {
      strides.resize(rank - 2);
      return strides;
    };
    Values result(static_cast<size_t>(c.count()), 0.0);
    walk<3>(batches,
            {batch_strides(dense(c.dims)), batch_strides(broadcast(tensor(node.inputs[0]))),
             batch_strides(broadcast(tensor(node.inputs[1])))},
            [&](const auto& at) {
              for (int64_t row = 0; row < m; ++row) {
                double* sums = &result[at[0] + row * n];
                for (int64_t i = 0; i < k; ++i) {
                  const double factor = a[at[1] + row * k + i];
                  const double* other = &b[at[2] + i * n];
                  for (int64_t column = 0; column < n; ++column) {
                    sums[column] += factor * other[column];
                  }
                }
              }
            });
    return result;
  }

  Values pointwise(const DnnNode& node) {
    const DnnTensor& y = tensor(node.output);
    Values result(static_cast<size_t>(y.count()));
    if (node.mode == CUDNN_POINTWISE_GEN_INDEX) {
      Strides along(y.dims.size(), 0);
      along[node.axis] = 1;
      walk<2>(y.dims, {dense(y.dims), along},
              [&](const auto& at) { result[at[0]] = static_cast<double>(at[1]); });
      return result;
    }
    const size_t count = node.inputs.size();
    const auto source = [&](size_t i) { return node.inputs[std::min(i, count - 1)]; };
    const Values& x = input(source(0));
    const Values& b = input(source(1));
    const Values& t = input(source(2));
    walk<4>(y.dims,
            {dense(y.dims), broadcast(tensor(source(0))), broadcast(tensor(source(1))),
             broadcast(tensor(source(2)))},
            [&](const auto& at) {
              result[at[0]] =
                  apply(node.mode, node.alpha1 * x[at[1]], node.alpha2 * b[at[2]], t[at[3]]);
            });
    return result;
  }

  Values reduction(const DnnNode& node) {
    const Values& x = input(node.inputs[0]);
    const DnnTensor& from = tensor(node.inputs[0]);
    const DnnTensor& to = tensor(node.output);
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const cudnnReduceTensorOp_t op = node.reduction;
    const double first = op == CUDNN_REDUCE_TENSOR_ADD   ? 0.0
                         : op == CUDNN_REDUCE_TENSOR_MAX ? -kInfinity
                                                         : kInfinity;
    Values result(static_cast<size_t>(to.count()), first);
    walk<2>(from.dims, {dense(from.dims), broadcast(to)}, [&](const auto& at) {
      double& sum = result[at[1]];
      const double value = x[at[0]];
      sum = op == CUDNN_REDUCE_TENSOR_ADD   ? sum + value
            : op == CUDNN_REDUCE_TENSOR_MAX ? apply(CUDNN_POINTWISE_MAX, value, sum, 0.0)
                                            : apply(CUDNN_POINTWISE_MIN, value, sum, 0.0);
    });
    return result;
  }

  Values reshape(const DnnNode& node) {
    const Values& x = input(node.inputs[0]);
    const DnnTensor& from = tensor(node.inputs[0]);
    const DnnTensor& to = tensor(node.output);
    const std::vector<int> axes = transposition(from, to);
    const Strides from_strides = dense(from.dims);
    Strides strides(axes.size());
    for (size_t i = 0; i < axes.size(); ++i) strides[i] = from_strides[axes[i]];
    Values result(x.size());
    walk<2>(to.dims, {dense(to.dims), strides}, [&](const auto& at) { result[at[0]] = x[at[1]]; });
    return result;
  }

  const DnnGraph& graph_;
  const DnnBinding& binding_;
  std::vector<Values> values_;
};

}  // namespace

double read_scalar(cudnnDataType_t type, const void* pointer) {
  switch (type) {
    case CUDNN_DATA_FLOAT: return read_as<float>(pointer);
    case CUDNN_DATA_DOUBLE: return read_as<double>(pointer);
    case CUDNN_DATA_HALF: return read_as<Half>(pointer);
    case CUDNN_DATA_BFLOAT16: return read_as<BFloat16>(pointer);
    case CUDNN_DATA_INT64: return read_as<int64_t>(pointer);
    case CUDNN_DATA_BOOLEAN: return read_as<bool>(pointer);
    default: return read_as<int32_t>(pointer);
  }
}

void run(const DnnGraph& graph, const DnnBinding& binding) {
  Run(graph, binding).all();
}

}  // namespace memwall::imitated
