#include "runtime/exec/gpu/nccl_communicator.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>

#include "comm/device_communicator.h"
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

class NcclCommunicator final : public DeviceCommunicator {
 public:
  NcclCommunicator(Device& device, Communicator& host, double timeout_seconds)
      : DeviceCommunicator(device, host),
        timeout_seconds_(timeout_seconds),
        exceptions_at_start_(std::uncaught_exceptions()) {
    ncclUniqueId id{};
    if (host.rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    host.broadcast(&id, sizeof(id), 0);
    check_nccl(ncclCommInitRank(&comm_, host.size(), id, host.rank()), "ncclCommInitRank");
  }
  ~NcclCommunicator() override {
    if (comm_ == nullptr) return;
    // After a failure nobody answers any more what is still queued.
    if (std::uncaught_exceptions() > exceptions_at_start_) {
      ncclCommAbort(comm_);
    } else {
      ncclCommDestroy(comm_);
    }
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

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
    done_ = std::max(done_, issued_ - static_cast<Ticket>(kRemembered));
    while (done_ < issued_ && device_.reached(mark_of(done_ + 1))) {
      ++done_;
      since_ = Clock::now();
    }
    if (done_ == issued_ || timeout_seconds_ <= 0.0) return;
    if (std::chrono::duration<double>(Clock::now() - since_).count() < timeout_seconds_) return;
    std::ostringstream text;
    text << "NCCL: a call is not done after " << timeout_seconds_
         << " s: another rank does not make it";
    fail(text.str());
  }

  void wait(Ticket ticket) override {
    check(ticket <= issued_, "wait for a collective that was not issued");
    check(ticket + static_cast<Ticket>(kRemembered) > issued_, "wait for a collective of long ago");
    device_.follow(Device::Queue::kCompute, mark_of(ticket));
    note_completed(ticket);
  }

  const Ledger& ledger() const override { return ledger_; }

 private:
  cudaStream_t stream() { return static_cast<cudaStream_t>(device_.native(kQueue)); }
  Device::Mark& mark_of(Ticket ticket) { return marks_[static_cast<size_t>(ticket) % kRemembered]; }
  void follow_compute() { device_.follow(kQueue, device_.mark(Device::Queue::kCompute)); }

  Ticket count(Collective kind, int64_t payload_bytes, int64_t wire_bytes) {
    Traffic& traffic = ledger_[kind];
    ++traffic.calls;
    traffic.payload_bytes += payload_bytes;
    traffic.wire_bytes += wire_bytes;
    if (done_ == issued_) since_ = Clock::now();
    mark_of(++issued_) = device_.mark(kQueue);
    return issued_;
  }

  // The communicator is useless from here on, and the other ranks learn of it.
  [[noreturn]] void fail(const std::string& message) {
    ncclCommAbort(comm_);
    comm_ = nullptr;
    throw Error(message, "", "see NCCL_DEBUG=INFO");
  }

  void check_nccl(ncclResult_t status, const char* call) const {
    if (status == ncclSuccess || status == ncclInProgress) return;
    throw Error(std::string("NCCL: ") + call + ": " + ncclGetErrorString(status) + ": " +
                    ncclGetLastError(comm_),
                "", "see NCCL_DEBUG=INFO");
  }

  const double timeout_seconds_;
  const int exceptions_at_start_;
  ncclComm_t comm_ = nullptr;
  Ledger ledger_;
  std::array<Device::Mark, kRemembered> marks_{};  // of the latest calls, by ticket
  Ticket issued_ = 0;
  Ticket done_ = 0;          // as far as progress() has seen
  Clock::time_point since_;  // the call after that one could begin
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Device& device, Communicator& host,
                                                     double timeout_seconds) {
  return std::make_unique<NcclCommunicator>(device, host, timeout_seconds);
}

}  // namespace memwall::cuda
