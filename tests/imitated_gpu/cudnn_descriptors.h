// Descriptors of cuDNN's backend API: what they hold, and which attributes each kind has. A
// descriptor that is set as another's attribute is shared with it, so its handle may go before.
// Stricter than the library where that only leaves something undefined: an unknown handle is
// refused, and an attribute that is not imitated is not accepted.
#pragma once

#include <cudnn_graph.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/imitated_gpu/process.h"

namespace memwall::imitated {

struct DnnGraph;
struct DnnContent;
using DnnContentPtr = std::shared_ptr<DnnContent>;

struct DnnValue {
  cudnnBackendAttributeType_t type;
  int64_t count = 0;
  std::vector<std::byte> bytes;  // empty where these are descriptors
  std::vector<DnnContentPtr> descriptors;
};

struct DnnContent {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<int, DnnValue> values;         // by cudnnBackendAttributeName_t
  std::shared_ptr<const DnnGraph> graph;  // of an operation graph and of what is made of it
};

// A call that is refused. Its text is for cudnnGetLastErrorString.
struct DnnError {
  cudnnStatus_t status;
  std::string text;
};
[[noreturn]] void refuse(cudnnStatus_t status, std::string text);
void remember(const char* call, const DnnError& error);  // for this thread; complains
std::string last_dnn_error();

// Handles. A null or unknown one is refused.
cudnnBackendDescriptor_t make_descriptor(cudnnBackendDescriptorType_t type);
void destroy_descriptor(cudnnBackendDescriptor_t handle);
DnnContentPtr& content_of(cudnnBackendDescriptor_t handle);
DnnContentPtr finalized_content_of(cudnnBackendDescriptor_t handle,
                                   cudnnBackendDescriptorType_t type);

// What the table of attributes says of one.
struct DnnAttribute {
  cudnnBackendDescriptorType_t of;
  cudnnBackendAttributeName_t name;
  const char* text;
  cudnnBackendAttributeType_t type;
  int64_t most;  // elements
  bool required;
  int element;  // cudnnBackendDescriptorType_t of what it may be set to; -1: not a descriptor
};
std::span<const DnnAttribute> attributes();
size_t element_bytes(cudnnBackendAttributeType_t type);
bool is_operation(cudnnBackendDescriptorType_t type);

void set_attribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void* elements);
// Attributes that were set, in the ways of cudnnBackendGetAttribute.
void get_attribute(const DnnContent& content, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                   void* elements);
// For attributes that are not set but known: fills at most `requested` elements, says how many
// there are (of descriptors: makes the handles at `elements` stand for them).
void give(const DnnValue& value, int64_t requested, int64_t* count, void* elements);
void check_required(const DnnContent& content);

// The value of a set attribute.
template <class Element>
Element get(const DnnContent& content, cudnnBackendAttributeName_t name, Element otherwise = {}) {
  const auto found = content.values.find(name);
  if (found == content.values.end() || found->second.bytes.empty()) return otherwise;
  Element value;
  std::memcpy(&value, found->second.bytes.data(), sizeof(value));
  return value;
}
template <class Element>
std::vector<Element> get_all(const DnnContent& content, cudnnBackendAttributeName_t name) {
  const auto found = content.values.find(name);
  if (found == content.values.end()) return {};
  std::vector<Element> elements(found->second.bytes.size() / sizeof(Element));
  if (!elements.empty()) {
    std::memcpy(elements.data(), found->second.bytes.data(), found->second.bytes.size());
  }
  return elements;
}
const std::vector<DnnContentPtr>& get_descriptors(const DnnContent& content,
                                                  cudnnBackendAttributeName_t name);
DnnContentPtr get_descriptor(const DnnContent& content, cudnnBackendAttributeName_t name);

// body(), under the library's lock; it refuses by refuse().
template <class Body>
cudnnStatus_t dnn_api(const char* name, Body body) {
  if (inside_work()) return CUDNN_STATUS_NOT_SUPPORTED;
  const Lock lock(process().mutex);
  if (enter(name) != cudaSuccess) return CUDNN_STATUS_EXECUTION_FAILED_CUDART;
  process().scheduler.drift();
  cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
  try {
    body();
  } catch (const DnnError& error) {
    status = error.status;
    remember(name, error);
  }
  process().scheduler.drift();
  return status;
}

}  // namespace memwall::imitated
