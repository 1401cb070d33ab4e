#include "tests/imitated_gpu/cudnn_descriptors.h"

#include <utility>

#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

struct Descriptor {
  DnnContentPtr content;
};

// By handle.
std::map<const void*, std::unique_ptr<Descriptor>>& descriptors() {
  static auto& the_descriptors = *new std::map<const void*, std::unique_ptr<Descriptor>>;
  return the_descriptors;
}

thread_local std::string the_last_dnn_error;

bool is_imitated(cudnnBackendDescriptorType_t type) {
  for (const DnnAttribute& attribute : attributes()) {
    if (attribute.of == type) return true;
  }
  return type == CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR;
}

}  // namespace

void refuse(cudnnStatus_t status, std::string text) {
  throw DnnError{status, std::move(text)};
}

void remember(const char* call, const DnnError& error) {
  the_last_dnn_error = std::string(call) + ": " + error.text;
  complain("%s: %s (%s)", call, error.text.c_str(), cudnnGetErrorString(error.status));
}
std::string last_dnn_error() {
  return std::exchange(the_last_dnn_error, {});
}

bool is_operation(cudnnBackendDescriptorType_t type) {
  return type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR ||
         type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR ||
         type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR ||
         type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
}

cudnnBackendDescriptor_t make_descriptor(cudnnBackendDescriptorType_t type) {
  if (!is_imitated(type)) {
    refuse(CUDNN_STATUS_NOT_SUPPORTED,
           "descriptors of type " + std::to_string(type) + " are not imitated");
  }
  auto made = std::make_unique<Descriptor>();
  made->content = std::make_shared<DnnContent>();
  made->content->type = type;
  void* const handle = made.get();
  descriptors()[handle] = std::move(made);
  return handle;
}

void destroy_descriptor(cudnnBackendDescriptor_t handle) {
  content_of(handle);
  descriptors().erase(handle);
}

DnnContentPtr& content_of(cudnnBackendDescriptor_t handle) {
  if (handle == nullptr) refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null descriptor");
  const auto found = descriptors().find(handle);
  if (found == descriptors().end()) {
    refuse(CUDNN_STATUS_BAD_PARAM, "a descriptor that does not exist, or no longer");
  }
  return found->second->content;
}

DnnContentPtr finalized_content_of(cudnnBackendDescriptor_t handle,
                                   cudnnBackendDescriptorType_t type) {
  DnnContentPtr content = content_of(handle);
  if (content->type != type) {
    refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "a descriptor of type " +
                                                       std::to_string(content->type) +
                                                       " instead of " + std::to_string(type));
  }
  if (!content->finalized) {
    refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor that is not finalized");
  }
  return content;
}

const std::vector<DnnContentPtr>& get_descriptors(const DnnContent& content,
                                                  cudnnBackendAttributeName_t name) {
  static const std::vector<DnnContentPtr> none;
  const auto found = content.values.find(name);
  return found == content.values.end() ? none : found->second.descriptors;
}

DnnContentPtr get_descriptor(const DnnContent& content, cudnnBackendAttributeName_t name) {
  const std::vector<DnnContentPtr>& found = get_descriptors(content, name);
  return found.empty() ? nullptr : found.front();
}

}  // namespace memwall::imitated
