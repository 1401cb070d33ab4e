// The attributes of cuDNN's descriptors, of those imitated.
#include <algorithm>
#include <array>

#include "tests/imitated_gpu/cudnn_descriptors.h"

namespace memwall::imitated {
namespace {

constexpr int64_t kMostDims = 8;
constexpr int64_t kMany = 4096;
constexpr int kTensor = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
constexpr int kPlain = -1;
constexpr int kOperation = -2;  // any operation

#define ROW(of, name, type, most, required, element)                                            \
  {                                                                                             \
    CUDNN_BACKEND_##of##_DESCRIPTOR, CUDNN_ATTR_##name, "CUDNN_ATTR_" #name, CUDNN_TYPE_##type, \
        most, required, element                                                                 \
  }
#define TENSOR(of, name, required) ROW(of, name, BACKEND_DESCRIPTOR, 1, required, kTensor)

constexpr auto kAttributes = std::to_array<DnnAttribute>({
    ROW(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, true, kPlain),
    ROW(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, true, kPlain),
    ROW(TENSOR, TENSOR_DIMENSIONS, INT64, kMostDims, true, kPlain),
    ROW(TENSOR, TENSOR_STRIDES, INT64, kMostDims, true, kPlain),
    ROW(TENSOR, TENSOR_VECTOR_COUNT, INT64, 1, false, kPlain),
    ROW(TENSOR, TENSOR_VECTORIZED_DIMENSION, INT64, 1, false, kPlain),
    ROW(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, true, kPlain),
    ROW(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, false, kPlain),
    ROW(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, 1, false, kPlain),
    ROW(TENSOR, TENSOR_REORDERING_MODE, TENSOR_REORDERING_MODE, 1, false, kPlain),

    ROW(MATMUL, MATMUL_COMP_TYPE, DATA_TYPE, 1, true, kPlain),
    TENSOR(OPERATION_MATMUL, OPERATION_MATMUL_ADESC, true),
    TENSOR(OPERATION_MATMUL, OPERATION_MATMUL_BDESC, true),
    TENSOR(OPERATION_MATMUL, OPERATION_MATMUL_CDESC, true),
    ROW(OPERATION_MATMUL, OPERATION_MATMUL_DESC, BACKEND_DESCRIPTOR, 1, true,
        CUDNN_BACKEND_MATMUL_DESCRIPTOR),

    ROW(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, true, kPlain),
    ROW(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, true, kPlain),
    ROW(POINTWISE, POINTWISE_AXIS, INT64, 1, false, kPlain),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, true),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, false),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_TDESC, false),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, true),
    ROW(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA1, FLOAT, 1, false, kPlain),
    ROW(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA1, DOUBLE, 1, false, kPlain),
    ROW(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA2, FLOAT, 1, false, kPlain),
    ROW(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA2, DOUBLE, 1, false, kPlain),
    ROW(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, true,
        CUDNN_BACKEND_POINTWISE_DESCRIPTOR),

    ROW(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, 1, true, kPlain),
    ROW(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE, 1, true, kPlain),
    ROW(REDUCTION, REDUCTION_IS_DETERMINISTIC, BOOLEAN, 1, false, kPlain),
    TENSOR(OPERATION_REDUCTION, OPERATION_REDUCTION_XDESC, true),
    TENSOR(OPERATION_REDUCTION, OPERATION_REDUCTION_YDESC, true),
    ROW(OPERATION_REDUCTION, OPERATION_REDUCTION_DESC, BACKEND_DESCRIPTOR, 1, true,
        CUDNN_BACKEND_REDUCTION_DESCRIPTOR),

    TENSOR(OPERATION_RESHAPE, OPERATION_RESHAPE_XDESC, true),
    TENSOR(OPERATION_RESHAPE, OPERATION_RESHAPE_YDESC, true),

    ROW(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, true, kPlain),
    ROW(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, kMany, true, kOperation),

    ROW(ENGINE, ENGINE_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, true,
        CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
    ROW(ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, true, kPlain),
    ROW(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, true,
        CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
    ROW(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, true, kPlain),
    ROW(ENGINEHEUR, ENGINEHEUR_SM_COUNT_TARGET, INT32, 1, false, kPlain),
    ROW(ENGINECFG, ENGINECFG_ENGINE, BACKEND_DESCRIPTOR, 1, true, CUDNN_BACKEND_ENGINE_DESCRIPTOR),
    ROW(ENGINECFG, ENGINECFG_KNOB_CHOICES, BACKEND_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS, false,
        CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR),
    ROW(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, 1, true, kPlain),
    ROW(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, 1, true, kPlain),

    ROW(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, false, kPlain),
    ROW(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, true,
        CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),

    ROW(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, kMany, true, kPlain),
    ROW(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, kMany, true, kPlain),
    ROW(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, false, kPlain),
});

#undef TENSOR
#undef ROW

const DnnAttribute& rule(const DnnContent& content, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type) {
  const DnnAttribute* named = nullptr;
  for (const DnnAttribute& row : kAttributes) {
    if (row.of != content.type || row.name != name) continue;
    if (row.type == type) return row;
    named = &row;
  }
  if (named != nullptr) {
    refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
           std::string(named->text) + ": type " + std::to_string(type));
  }
  refuse(CUDNN_STATUS_NOT_SUPPORTED,
         "attribute " + std::to_string(name) + " of a descriptor of type " +
             std::to_string(content.type) + ": not one, or not imitated");
}

DnnContentPtr settable(const DnnAttribute& row, cudnnBackendDescriptor_t handle) {
  DnnContentPtr content = content_of(handle);
  const bool fits = row.element == kOperation ? is_operation(content->type)
                                              : static_cast<int>(content->type) == row.element;
  if (!fits) {
    refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
           std::string(row.text) + ": a descriptor of type " + std::to_string(content->type));
  }
  if (!content->finalized) {
    refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
           std::string(row.text) + ": a descriptor that is not finalized");
  }
  return content;
}

}  // namespace

std::span<const DnnAttribute> attributes() {
  return kAttributes;
}

size_t element_bytes(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;  // FP32, INT32 and the enumerations
  }
}

void set_attribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  DnnContent& content = *content_of(handle);
  if (content.finalized) {
    refuse(CUDNN_STATUS_NOT_INITIALIZED, "an attribute is set after cudnnBackendFinalize");
  }
  const DnnAttribute& row = rule(content, name, type);
  const bool may_be_none = row.most > 1;
  if (count < (may_be_none ? 0 : 1) || count > row.most) {
    refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND,
           std::string(row.text) + ": " + std::to_string(count) + " elements");
  }
  if (count > 0 && elements == nullptr) {
    refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, std::string(row.text) + ": null elements");
  }
  DnnValue value{type, count, {}, {}};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    const auto* handles = static_cast<const cudnnBackendDescriptor_t*>(elements);
    for (int64_t i = 0; i < count; ++i) value.descriptors.push_back(settable(row, handles[i]));
  } else {
    value.bytes.resize(static_cast<size_t>(count) * element_bytes(type));
    if (count > 0) std::memcpy(value.bytes.data(), elements, value.bytes.size());
  }
  content.values[name] = std::move(value);
}

void give(const DnnValue& value, int64_t requested, int64_t* count, void* elements) {
  if (count != nullptr) *count = value.count;
  if (elements == nullptr) return;
  const int64_t given = std::min(requested, value.count);
  if (value.type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    auto* handles = static_cast<cudnnBackendDescriptor_t*>(elements);
    for (int64_t i = 0; i < given; ++i) {
      DnnContentPtr& content = content_of(handles[i]);
      if (content->type != value.descriptors[i]->type || content->finalized) {
        refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
               "a descriptor to be filled is of another type, or finalized");
      }
      content = value.descriptors[i];
    }
  } else if (given > 0) {
    std::memcpy(elements, value.bytes.data(),
                static_cast<size_t>(given) * element_bytes(value.type));
  }
}

void get_attribute(const DnnContent& content, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                   void* elements) {
  const DnnAttribute& row = rule(content, name, type);
  const auto found = content.values.find(name);
  if (found == content.values.end()) {
    give({type, 0, {}, {}}, requested, count, nullptr);
    return;
  }
  if (requested < 0) refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, row.text);
  give(found->second, requested, count, elements);
}

void check_required(const DnnContent& content) {
  for (const DnnAttribute& row : kAttributes) {
    if (row.of == content.type && row.required && !content.values.contains(row.name)) {
      refuse(CUDNN_STATUS_BAD_PARAM, std::string(row.text) + " is not set");
    }
  }
}

}  // namespace memwall::imitated
