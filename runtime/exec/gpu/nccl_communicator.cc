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
#include <thread>

#include "comm/agree.h"
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

// Who waits for NCCL's start tells the others before the host's communicator ends the job.
constexpr double kStartsShare = 0.8;  // of the time-out

// The communicator does not block: its calls do their work on a thread of NCCL's, and it can be
// given up while they do. Until such a call is settled nothing else may be called of it, and
// nothing put in its queue.
class NcclCommunicator final : public DeviceCommunicator {
 public:
  NcclCommunicator(Device& device, Communicator& host, double timeout_seconds)
      : DeviceCommunicator(device, host),
        timeout_seconds_(timeout_seconds),
        exceptions_at_start_(std::uncaught_exceptions()) {
    struct {
      ncclResult_t made = ncclSuccess;
      ncclUniqueId id{};
    } start;
    if (host.rank() == 0) start.made = ncclGetUniqueId(&start.id);
    host.broadcast(&start, sizeof(start), 0);
    settle(start.made, "ncclGetUniqueId", timeout_seconds);
    host.barrier();  // the time of all ranks begins now
    // Buffers that NCCL registers by itself in a capture may change how many channels a call takes,
    // and with it the order of sums: graphs would not give the bits of single calls.
    setenv("NCCL_GRAPH_REGISTER", "0", 0);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    settle(ncclCommInitRankConfig(&comm_, host.size(), start.id, host.rank(), &config),
           "ncclCommInitRankConfig", kStartsShare * timeout_seconds);
  }
  ~NcclCommunicator() override {
    // After a failure nobody answers any more what is still queued.
    if (std::uncaught_exceptions() > exceptions_at_start_) abandon();
    if (comm_ == nullptr) return;
    forget_graphs();
    if (settled(ncclCommFinalize(comm_), timeout_seconds_) == ncclSuccess) {
      ncclCommDestroy(comm_);
    } else {
      ncclCommAbort(comm_);
    }
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  Transport transport() const override { return Transport::kNccl; }

  void abandon() override {
    if (comm_ == nullptr) return;
    forget_graphs();
    ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  Ticket all_gather(const void* shard, void* whole, int64_t shard_bytes, Algorithm) override {
    queue("ncclAllGather", [&] {
      return ncclAllGather(shard, whole, static_cast<size_t>(shard_bytes), ncclInt8, comm_,
                           stream());
    });
    return count(Collective::kAllGather, size() * shard_bytes,
                 all_gather_wire_bytes(size(), shard_bytes));
  }

  Ticket reduce_scatter(const void* whole, void* shard, int64_t shard_elements, DType dtype, void*,
                        Algorithm) override {
    queue("ncclReduceScatter", [&] {
      return ncclReduceScatter(whole, shard, static_cast<size_t>(shard_elements), nccl_type(dtype),
                               ncclSum, comm_, stream());
    });
    const int64_t bytes = shard_elements * size_of(dtype);
    return count(Collective::kReduceScatter, size() * bytes,
                 reduce_scatter_wire_bytes(size(), bytes));
  }

  Ticket all_reduce(double* values, int64_t elements, void*) override {
    queue("ncclAllReduce", [&] {
      return ncclAllReduce(values, values, static_cast<size_t>(elements), ncclFloat64, ncclSum,
                           comm_, stream());
    });
    return count(Collective::kAllReduce, elements * size_of(DType::kF64),
                 all_reduce_wire_bytes(size(), elements));
  }

  // Looks for what went wrong on this rank's side or another's, and for calls that take too long.
  void progress() override {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess) fail("NCCL: ncclCommGetAsyncError: " + text_of(asked));
    if (state != ncclSuccess && state != ncclInProgress) fail("NCCL: " + text_of(state));
    done_ = std::max(done_, issued_ - static_cast<Ticket>(kRemembered));
    while (done_ < issued_ && device_.reached(mark_of(done_ + 1))) {
      ++done_;
      since_ = Clock::now();
    }
    if (done_ == issued_ || timeout_seconds_ <= 0.0) return;
    if (std::chrono::duration<double>(Clock::now() - since_).count() < timeout_seconds_) return;
    fail<NoAnswer>("NCCL: a call is not done after " + seconds_text(timeout_seconds_) +
                   ": another rank does not make it");
  }

  void wait(Ticket ticket) override {
    check(ticket <= issued_, "wait for a collective that was not issued");
    check(ticket + static_cast<Ticket>(kRemembered) > issued_, "wait for a collective of long ago");
    device_.follow(Device::Queue::kCompute, mark_of(ticket));
    note_completed(ticket);
  }

  const Ledger& ledger() const override { return ledger_; }

  // One window; collective.
  void open_window(void* memory, int64_t bytes) {
    settle(ncclCommWindowRegister(comm_, memory, static_cast<size_t>(bytes), &window_,
                                  NCCL_WIN_COLL_SYMMETRIC),
           "ncclCommWindowRegister", timeout_seconds_);
    if (window_ != nullptr) return;
    throw InputError("NCCL has no symmetric windows between these GPUs",
                     "communication.symmetric_windows: true",
                     "leave it out; it takes GPUs that reach each other's memory, "
                     "and neither NCCL_CUMEM_ENABLE=0 nor NCCL_WIN_ENABLE=0");
  }
  // All that was queued is done.
  void close_window() {
    if (comm_ == nullptr || window_ == nullptr) return;  // given up: NCCL closed it
    settled(ncclCommWindowDeregister(comm_, window_), timeout_seconds_);
    window_ = nullptr;
  }

 private:
  cudaStream_t stream() { return static_cast<cudaStream_t>(device_.native(kQueue)); }
  Device::Mark& mark_of(Ticket ticket) { return marks_[static_cast<size_t>(ticket) % kRemembered]; }
  DeviceGraphs* graphs() const { return device_.graphs(); }

  // Where the device launches a graph, the call is in it.
  template <class Call>
  void queue(const char* name, const Call& call) {
    if (graphs() != nullptr && graphs()->launching()) return;
    device_.follow(kQueue, device_.mark(Device::Queue::kCompute));
    settle(call(), name, timeout_seconds_);
  }

  Ticket count(Collective kind, int64_t payload_bytes, int64_t wire_bytes) {
    Traffic& traffic = ledger_[kind];
    ++traffic.calls;
    traffic.payload_bytes += payload_bytes;
    traffic.wire_bytes += wire_bytes;
    if (done_ == issued_) since_ = Clock::now();
    mark_of(++issued_) = device_.mark(kQueue);
    return issued_;
  }

  static std::string seconds_text(double seconds) {
    std::ostringstream text;
    text << seconds << " s";
    return text.str();
  }
  static std::string text_of(ncclResult_t status) {
    return std::string(ncclGetErrorString(status)) + ": " + ncclGetLastError(nullptr);
  }

  // How a call that returned `status` ended; ncclInProgress: not within the limit (0: none). The
  // first milliseconds are spun: a collective is put in its queue in less.
  ncclResult_t settled(ncclResult_t status, double limit_seconds) const {
    constexpr double kSpinSeconds = 2e-3;
    const auto start = Clock::now();
    // What returns ncclSuccess may still be under way too, as the opening of a window.
    bool asked = comm_ == nullptr || (status != ncclSuccess && status != ncclInProgress);
    while (!asked || status == ncclInProgress) {
      asked = true;
      const ncclResult_t answered = ncclCommGetAsyncError(comm_, &status);
      if (answered != ncclSuccess) return answered;
      if (status != ncclInProgress) break;
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (limit_seconds > 0.0 && seconds > limit_seconds) break;
      if (seconds > kSpinSeconds) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return status;
  }

  void settle(ncclResult_t status, const char* call, double limit_seconds) {
    status = settled(status, limit_seconds);
    if (status == ncclSuccess) return;
    if (status != ncclInProgress) fail(std::string("NCCL: ") + call + ": " + text_of(status));
    fail<NoAnswer>(std::string("NCCL: ") + call + " is not done after " +
                   seconds_text(limit_seconds) +
                   ": another rank does not make it, or cannot be reached");
  }

  // NCCL ends a communicator only when no graph holds its calls any more, and waits for that.
  void forget_graphs() const {
    if (graphs() != nullptr) graphs()->forget_all();
  }

  // The communicator is useless from here on, and the other ranks learn of it.
  template <class Kind = Error>
  [[noreturn]] void fail(const std::string& message) {
    abandon();
    throw Kind(message, "", "see NCCL_DEBUG=INFO");
  }

  const double timeout_seconds_;
  const int exceptions_at_start_;
  ncclComm_t comm_ = nullptr;
  ncclWindow_t window_ = nullptr;
  Ledger ledger_;
  std::array<Device::Mark, kRemembered> marks_{};  // of the latest calls, by ticket
  Ticket issued_ = 0;
  Ticket done_ = 0;          // as far as progress() has seen
  Clock::time_point since_;  // the call after that one could begin
};

class NcclArena final : public SharedArena {
 public:
  explicit NcclArena(NcclCommunicator& nccl) : nccl_(nccl) {}

  std::byte* allocate(int64_t bytes) override {
    const ncclResult_t status = ncclMemAlloc(&memory_, static_cast<size_t>(bytes));
    if (status == ncclSuccess) {
      bytes_ = bytes;
      return static_cast<std::byte*>(memory_);
    }
    cudaGetLastError();  // it is reported here
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw Error(
        "NCCL: ncclMemAlloc of " + std::to_string(bytes) + " bytes, of which " +
            std::to_string(free) + " are free: " + ncclGetErrorString(status),
        "", "NCCL rounds up: leave communication.symmetric_windows out, or make the plan smaller");
  }
  // Unlike cudaFree, NCCL's does not wait for what is queued on the memory.
  void release(std::byte* memory) override {
    cudaDeviceSynchronize();
    nccl_.close_window();
    ncclMemFree(memory);
  }
  void share() override { nccl_.open_window(memory_, bytes_); }

 private:
  NcclCommunicator& nccl_;
  void* memory_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<SharedArena> make_shared_arena(Communicator& nccl) {
  check(nccl.transport() == Transport::kNccl, "a shared arena without NCCL");
  return std::make_unique<NcclArena>(static_cast<NcclCommunicator&>(nccl));
}

std::unique_ptr<Communicator> make_nccl_communicator(Device& device, Communicator& host,
                                                     double timeout_seconds) {
  return std::make_unique<NcclCommunicator>(device, host, timeout_seconds);
}

}  // namespace memwall::cuda
