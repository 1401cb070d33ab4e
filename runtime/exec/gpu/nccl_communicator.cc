#include "runtime/exec/gpu/nccl_communicator.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <string>

#include "runtime/base/error.h"

namespace memwall::cuda {
namespace {

constexpr auto kQueue = Device::Queue::kCommunication;
using Clock = std::chrono::steady_clock;

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kF16: return ncclFloat16;
    case DType::kBF16: return ncclBfloat16;
    case DType::kF32: return ncclFloat32;
    case DType::kF64: return ncclFloat64;
    default: throw InternalError("NCCL has no sum of " + std::string(name_of(dtype)));
  }
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Device& device, Communicator& host, double timeout_seconds)
      : device_(device), host_(host), timeout_seconds_(timeout_seconds) {
    ncclUniqueId id{};
    if (host.rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    host.broadcast(&id, sizeof(id), 0);
    check_nccl(ncclCommInitRank(&comm_, host.size(), id, host.rank()), "ncclCommInitRank");
  }
  ~NcclCommunicator() override {
    if (comm_ != nullptr) ncclCommDestroy(comm_);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  Transport transport() const override { return Transport::kNccl; }

  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes, Algorithm) override {
    follow_compute();
    check_nccl(
        ncclAllGather(shard, whole, static_cast<size_t>(shard_bytes), ncclInt8, comm_, stream()),
        "ncclAllGather");
    return count(Collective::kAllGather, size() * shard_bytes,
                 all_gather_wire_bytes(size(), shard_bytes));
  }

  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype, void*,
                        Algorithm) override {
    follow_compute();
    check_nccl(ncclReduceScatter(whole, shard, static_cast<size_t>(shard_elements),
                                 nccl_type(dtype), ncclSum, comm_, stream()),
               "ncclReduceScatter");
    const int64_t bytes = shard_elements * size_of(dtype);
    return count(Collective::kReduceScatter, size() * bytes,
                 reduce_scatter_wire_bytes(size(), bytes));
  }

  Ticket all_reduce(double* values, int64_t elements, void*) override {
    follow_compute();
    check_nccl(ncclAllReduce(values, values, static_cast<size_t>(elements), ncclFloat64, ncclSum,
                             comm_, stream()),
               "ncclAllReduce");
    return count(Collective::kAllReduce, elements * size_of(DType::kF64),
                 all_reduce_wire_bytes(size(), elements));
  }

  // Looks for what went wrong on this rank's side or another's, and for calls that take too long.
  void progress() override {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
    if (state != ncclSuccess && state != ncclInProgress) {
      fail(std::string("NCCL: ") + ncclGetErrorString(state) + ": " + ncclGetLastError(comm_));
    }
    if (issued_ == 0 || device_.reached(last_)) {
      waiting_ = false;
    } else if (!waiting_) {
      waiting_ = true;
      since_ = Clock::now();
    } else if (timeout_seconds_ > 0.0 &&
               std::chrono::duration<double>(Clock::now() - since_).count() > timeout_seconds_) {
      fail("NCCL: no progress for " + std::to_string(timeout_seconds_) + " seconds in " +
           std::string(activity_));
    }
  }

  void wait(Ticket ticket) override {
    check(ticket <= issued_, "wait for a collective that was not issued");
    device_.follow(Device::Queue::kCompute, last_);
    note_completed(ticket);
  }

  void barrier() override { host_.barrier(); }
  void broadcast(void* data, int64_t bytes, int root) override {
    host_.broadcast(data, bytes, root);
  }
  std::vector<double> gather_all(const std::vector<double>& mine) override {
    return host_.gather_all(mine);
  }
  std::vector<std::string> gather_text(const std::string& mine) override {
    return host_.gather_text(mine);
  }
  void set_activity(const char* activity) override {
    activity_ = activity;
    host_.set_activity(activity);
  }
  const Ledger& ledger() const override { return ledger_; }

 private:
  cudaStream_t stream() { return static_cast<cudaStream_t>(device_.native(kQueue)); }
  void follow_compute() { device_.follow(kQueue, device_.mark(Device::Queue::kCompute)); }

  Ticket count(Collective kind, int64_t payload_bytes, int64_t wire_bytes) {
    Traffic& traffic = ledger_[kind];
    ++traffic.calls;
    traffic.payload_bytes += payload_bytes;
    traffic.wire_bytes += wire_bytes;
    last_ = device_.mark(kQueue);
    return ++issued_;
  }

  // The communicator is useless from here on, and the other ranks learn of it.
  [[noreturn]] void fail(const std::string& message) {
    ncclCommAbort(comm_);
    comm_ = nullptr;
    throw Error(message, activity_, "see NCCL_DEBUG=INFO");
  }

  void check_nccl(ncclResult_t status, const char* call) const {
    if (status == ncclSuccess || status == ncclInProgress) return;
    throw Error(std::string("NCCL: ") + call + ": " + ncclGetErrorString(status) + ": " +
                    ncclGetLastError(comm_),
                activity_, "see NCCL_DEBUG=INFO");
  }

  Device& device_;
  Communicator& host_;
  const double timeout_seconds_;
  ncclComm_t comm_ = nullptr;
  Ledger ledger_;
  Ticket issued_ = 0;
  Device::Mark last_ = 0;
  bool waiting_ = false;
  Clock::time_point since_;
  const char* activity_ = "";
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Device& device, Communicator& host,
                                                     double timeout_seconds) {
  return std::make_unique<NcclCommunicator>(device, host, timeout_seconds);
}

}  // namespace memwall::cuda
