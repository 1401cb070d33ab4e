// cuDNN's backend API: handles, descriptors, engines and the execution of a plan.
#include <algorithm>
#include <limits>
#include <set>

#include "tests/imitated_gpu/cudnn_descriptors.h"
#include "tests/imitated_gpu/cudnn_graph.h"
#include "tests/imitated_gpu/settings.h"

struct cudnnContext {
  int device = 0;
  cudaStream_t stream = nullptr;
};

namespace memwall::imitated {
namespace {

constexpr size_t kVersion = 91900;
constexpr int64_t kEngines = 20;  // numbers that an engine may have
constexpr int32_t kSharedBytes = 200 << 10;

std::map<const void*, std::unique_ptr<cudnnContext>>& handles() {
  static auto& the_handles = *new std::map<const void*, std::unique_ptr<cudnnContext>>;
  return the_handles;
}

cudnnContext& context_of(cudnnHandle_t handle) {
  const auto found = handles().find(handle);
  if (found == handles().end()) {
    refuse(handle == nullptr ? CUDNN_STATUS_BAD_PARAM_NULL_POINTER : CUDNN_STATUS_BAD_PARAM,
           "a handle that does not exist");
  }
  return *found->second;
}

DnnValue plain(cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  DnnValue value{type, count, {}, {}};
  value.bytes.resize(static_cast<size_t>(count) * element_bytes(type));
  if (count > 0) std::memcpy(value.bytes.data(), elements, value.bytes.size());
  return value;
}
template <class Element>
DnnValue plain(cudnnBackendAttributeType_t type, std::initializer_list<Element> elements) {
  return plain(type, static_cast<int64_t>(elements.size()), elements.begin());
}

// The engine that the heuristics propose: the number that fused attention has on that device.
int64_t engine_number() {
  const int generation = settings().arch / 10;
  return generation == 9 ? 6 : generation >= 10 ? 5 : 1;
}

DnnContentPtr proposal(const DnnContentPtr& operation_graph) {
  auto engine = std::make_shared<DnnContent>();
  engine->type = CUDNN_BACKEND_ENGINE_DESCRIPTOR;
  engine->values[CUDNN_ATTR_ENGINE_OPERATION_GRAPH] = {
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {operation_graph}};
  engine->values[CUDNN_ATTR_ENGINE_GLOBAL_INDEX] = plain(CUDNN_TYPE_INT64, {engine_number()});
  auto config = std::make_shared<DnnContent>();
  config->type = CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
  config->values[CUDNN_ATTR_ENGINECFG_ENGINE] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {engine}};
  for (const DnnContentPtr& content : {engine, config}) {
    content->graph = operation_graph->graph;
    content->finalized = true;
  }
  return config;
}

// Where a descriptor's graph comes from: an attribute of it, or none.
void take_graph(DnnContent& content) {
  for (const cudnnBackendAttributeName_t name :
       {CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
        CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG}) {
    if (const DnnContentPtr source = get_descriptor(content, name)) content.graph = source->graph;
  }
}

void finalize_variant_pack(const DnnContent& content) {
  const auto uids = get_all<int64_t>(content, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = get_all<void*>(content, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (uids.size() != pointers.size()) {
    refuse(CUDNN_STATUS_BAD_PARAM, "a variant pack with " + std::to_string(uids.size()) +
                                       " unique ids and " + std::to_string(pointers.size()) +
                                       " pointers");
  }
  if (std::set<int64_t>(uids.begin(), uids.end()).size() != uids.size()) {
    refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "a unique id stands twice in a variant pack");
  }
}

void finalize(DnnContent& content) {
  if (content.finalized) refuse(CUDNN_STATUS_BAD_PARAM, "a descriptor is finalized twice");
  check_required(content);
  take_graph(content);
  switch (content.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: tensor_of(content); break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: {
      auto graph = std::make_shared<DnnGraph>(*graph_of(content));
      graph->device =
          context_of(get<cudnnHandle_t>(content, CUDNN_ATTR_OPERATIONGRAPH_HANDLE)).device;
      content.graph = std::move(graph);
      break;
    }
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR: {
      const auto number = get<int64_t>(content, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
      if (number < 0 || number >= kEngines) {
        refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "CUDNN_ATTR_ENGINE_GLOBAL_INDEX");
      }
      check_support(*content.graph);
      break;
    }
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: check_support(*content.graph); break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: finalize_variant_pack(content); break;
    default:
      if (is_operation(content.type)) check_operation(content);
  }
  content.finalized = true;
}

// Attributes that are never set; false: it is none of them.
bool derive(const DnnContentPtr& content, cudnnBackendAttributeName_t name, DnnValue& value) {
  const auto workspace = [&] {
    return plain(CUDNN_TYPE_INT64, {workspace_bytes(*content->graph)});
  };
  switch (name) {
    case CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT:
      value = plain(CUDNN_TYPE_INT64, {kEngines});
      return content->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR;
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      if (content->type != CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) return false;
      const DnnContentPtr graph = get_descriptor(*content, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
      value = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {proposal(graph)}};
      return true;
    }
    case CUDNN_ATTR_ENGINE_KNOB_INFO:
      value = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, {}, {}};
      return content->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
      if (content->type != CUDNN_BACKEND_ENGINE_DESCRIPTOR) return false;
      const int32_t notes[] = {CUDNN_NUMERICAL_NOTE_TENSOR_CORE,
                               CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
      value = plain(CUDNN_TYPE_NUMERICAL_NOTE, is_deterministic(*content->graph) ? 1 : 2, notes);
      return true;
    }
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
      value = plain(CUDNN_TYPE_BEHAVIOR_NOTE,
                    {static_cast<int32_t>(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)});
      return content->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR;
    case CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE:
      if (content->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) return false;
      value = workspace();
      return true;
    case CUDNN_ATTR_ENGINECFG_SHARED_MEMORY_USED:
      value = plain(CUDNN_TYPE_INT32, {kSharedBytes});
      return content->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      if (content->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) return false;
      value = workspace();
      return true;
    default: return false;
  }
}

struct Range {
  const std::byte* begin;
  const std::byte* end;
};

// A part of the device's memory that a plan touches.
void check_range(const std::string& name, const void* pointer, size_t bytes, int device) {
  if (pointer == nullptr) refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, name + " is null");
  if (!process().memory.on_device(pointer, bytes, device)) {
    refuse(CUDNN_STATUS_BAD_PARAM, name + " does not lie inside one allocation of the device");
  }
}

DnnBinding binding_of(const DnnGraph& graph, const DnnContent& pack, int device,
                      std::vector<Range>& ranges) {
  const auto uids = get_all<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = get_all<void*>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  DnnBinding binding;
  for (const DnnTensor& tensor : graph.tensors) {
    binding.pointers.push_back(nullptr);
    binding.scalars.push_back(0.0);
    if (tensor.is_virtual) continue;
    const std::string name = "tensor " + std::to_string(tensor.uid);
    const auto found = std::find(uids.begin(), uids.end(), tensor.uid);
    if (found == uids.end()) {
      refuse(CUDNN_STATUS_BAD_PARAM, name + " is not in the variant pack");
    }
    void* const pointer = pointers[static_cast<size_t>(found - uids.begin())];
    if (tensor.by_value) {
      if (pointer == nullptr) refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, name + " is null");
      if (process().memory.holds(pointer, 1, Place::kDevice)) {
        refuse(CUDNN_STATUS_BAD_PARAM, name + " is passed by value, but lies on a device");
      }
      binding.scalars.back() = read_scalar(tensor.type, pointer);
      continue;
    }
    check_range(name, pointer, tensor.bytes(), device);
    if (reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(tensor.alignment) != 0) {
      refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
             name + " is not aligned to " + std::to_string(tensor.alignment) + " bytes");
    }
    binding.pointers.back() = pointer;
    const auto* begin = static_cast<const std::byte*>(pointer);
    ranges.push_back({begin, begin + tensor.bytes()});
  }
  return binding;
}

void check_workspace(const std::byte* workspace, size_t bytes, const std::vector<Range>& ranges,
                     int device) {
  if (bytes == 0) return;
  check_range("the workspace", workspace, bytes, device);
  for (const Range& range : ranges) {
    if (workspace < range.end && range.begin < workspace + bytes) {
      refuse(CUDNN_STATUS_BAD_PARAM,
             "the workspace of " + std::to_string(bytes) + " bytes overlaps a tensor");
    }
  }
}

void execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_handle,
             cudnnBackendDescriptor_t pack_handle) {
  const cudnnContext& context = context_of(handle);
  const DnnContentPtr plan =
      finalized_content_of(plan_handle, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  const DnnContentPtr pack =
      finalized_content_of(pack_handle, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const StreamPtr stream = find_stream(context.stream);
  if (stream == nullptr || stream->device != current_device() ||
      context.device != current_device() || plan->graph->device != current_device()) {
    refuse(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH,
           "handle, plan and stream are not all of the current device");
  }
  std::vector<Range> ranges;
  DnnBinding binding = binding_of(*plan->graph, *pack, context.device, ranges);
  const auto bytes = static_cast<size_t>(workspace_bytes(*plan->graph));
  auto* workspace = get<std::byte*>(*pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
  check_workspace(workspace, bytes, ranges, context.device);
  process().issue(stream, [graph = plan->graph, binding = std::move(binding), ranges, workspace,
                           bytes, device = context.device] {
    for (const Range& range : ranges) {
      const auto length = static_cast<size_t>(range.end - range.begin);
      if (!process().memory.on_device(range.begin, length, device)) {
        process().lose(cudaErrorIllegalAddress);
        return true;
      }
    }
    if (bytes > 0) std::memset(workspace, 0xFF, bytes);
    run(*graph, binding);
    return true;
  });
}

}  // namespace
}  // namespace memwall::imitated

using namespace memwall::imitated;

extern "C" {

size_t cudnnGetVersion() {
  return kVersion;
}
size_t cudnnGetCudartVersion() {
  return CUDART_VERSION;
}

void cudnnGetLastErrorString(char* message, size_t most) {
  if (message == nullptr || most == 0) return;
  const std::string text = last_dnn_error();
  const size_t length = std::min(text.size(), most - 1);
  std::memcpy(message, text.data(), length);
  message[length] = '\0';
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return dnn_api("cudnnCreate", [&] {
    if (handle == nullptr) refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the handle is null");
    if (process().check_no_capture() != cudaSuccess) {
      refuse(CUDNN_STATUS_INTERNAL_ERROR, "a handle allocates memory, which a capture forbids");
    }
    auto made = std::make_unique<cudnnContext>();
    made->device = current_device();
    *handle = made.get();
    handles()[made.get()] = std::move(made);
  });
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  return dnn_api("cudnnDestroy", [&] {
    context_of(handle);
    handles().erase(handle);
  });
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream_handle) {
  return dnn_api("cudnnSetStream", [&] {
    cudnnContext& context = context_of(handle);
    const StreamPtr stream = find_stream(stream_handle);
    if (stream == nullptr || stream->device != context.device) {
      refuse(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH,
             "the stream is not one of the handle's device");
    }
    context.stream = stream_handle;
  });
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  return dnn_api("cudnnGetStream", [&] { *stream = context_of(handle).stream; });
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  return dnn_api("cudnnBackendCreateDescriptor", [&] {
    if (descriptor == nullptr) {
      refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "where to put the descriptor is null");
    }
    *descriptor = make_descriptor(type);
  });
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  return dnn_api("cudnnBackendDestroyDescriptor", [&] { destroy_descriptor(descriptor); });
}
cudnnStatus_t cudnnBackendInitialize(cudnnBackendDescriptor_t descriptor) {
  return dnn_api("cudnnBackendInitialize", [&] {
    DnnContentPtr& content = content_of(descriptor);
    const cudnnBackendDescriptorType_t type = content->type;
    content = std::make_shared<DnnContent>();
    content->type = type;
  });
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* elements) {
  return dnn_api("cudnnBackendSetAttribute",
                 [&] { set_attribute(descriptor, name, type, count, elements); });
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested,
                                       int64_t* count, void* elements) {
  return dnn_api("cudnnBackendGetAttribute", [&] {
    const DnnContentPtr content = content_of(descriptor);
    if (!content->finalized) {
      refuse(CUDNN_STATUS_NOT_INITIALIZED, "an attribute is read before cudnnBackendFinalize");
    }
    DnnValue value;
    if (!derive(content, name, value)) {
      get_attribute(*content, name, type, requested, count, elements);
      return;
    }
    if (value.type != type) {
      refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute " + std::to_string(name));
    }
    give(value, requested, count, elements);
  });
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return dnn_api("cudnnBackendFinalize", [&] { finalize(*content_of(descriptor)); });
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  return dnn_api("cudnnBackendExecute", [&] { execute(handle, plan, pack); });
}

}  // extern "C"
