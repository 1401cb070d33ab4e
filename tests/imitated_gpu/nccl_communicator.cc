#include "tests/imitated_gpu/nccl_communicator.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "tests/imitated_gpu/nccl_sum.h"
#include "tests/imitated_gpu/settings.h"

namespace memwall::imitated {
namespace {

std::map<const void*, CommunicatorPtr>& communicators() {
  static auto& all = *new std::map<const void*, CommunicatorPtr>;
  return all;
}
std::string& error_text() {
  static auto& text = *new std::string;
  return text;
}

struct Member {
  ncclUniqueId id;
  char host[256];
  int device;
};

bool mpi_runs() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

// All with one id, and no two on one device.
ncclResult_t check_members(const std::vector<Member>& members, const ncclUniqueId& id) {
  for (size_t i = 0; i < members.size(); ++i) {
    if (std::memcmp(&members[i].id, &id, sizeof(id)) != 0) {
      return nccl_error(ncclInvalidArgument, "the ranks have different unique ids");
    }
    for (size_t j = 0; j < i; ++j) {
      if (members[i].device == members[j].device &&
          std::strcmp(members[i].host, members[j].host) == 0) {
        return nccl_error(ncclInvalidUsage, "Duplicate GPU detected : rank " + std::to_string(j) +
                                                " and rank " + std::to_string(i) +
                                                " both on CUDA device " +
                                                std::to_string(members[i].device));
      }
    }
  }
  return ncclSuccess;
}

// Meets the other ranks, without blocking. What MPI writes to is kept for ever: a meeting that is
// given up cannot be taken back.
class Meeting {
 public:
  Meeting(ncclComm& communicator, const ncclUniqueId& id) : communicator_(communicator) {
    self_.id = id;
    gethostname(self_.host, sizeof(self_.host) - 1);
    self_.device = settings().first + communicator.device;
    members_.resize(static_cast<size_t>(communicator.size));
  }

  ncclResult_t get_on() {
    if (phase_ == 0) {
      MPI_Comm_idup(MPI_COMM_WORLD, &world_, &request_);
      phase_ = 1;
    }
    if (!arrived()) return ncclInProgress;
    if (phase_ == 1) {
      MPI_Iallgather(&self_, sizeof(self_), MPI_BYTE, members_.data(), sizeof(self_), MPI_BYTE,
                     world_, &request_);
      phase_ = 2;
      if (!arrived()) return ncclInProgress;
    }
    communicator_.world = world_;
    return check_members(members_, self_.id);
  }

 private:
  bool arrived() {
    int done = 0;
    MPI_Test(&request_, &done, MPI_STATUS_IGNORE);
    return done != 0;
  }

  ncclComm& communicator_;
  Member self_{};
  std::vector<Member> members_;
  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Request request_ = MPI_REQUEST_NULL;
  int phase_ = 0;
};

// The state of one enqueued group.
bool run(const CommunicatorPtr& communicator, Exchange& exchange) {
  if (communicator->aborted) return true;
  const bool needs_mpi = communicator->size > 1;
  if (needs_mpi && std::this_thread::get_id() != communicator->thread) return false;
  switch (exchange.progress()) {
    case Exchange::State::kWaiting: return false;
    case Exchange::State::kFinished: return true;
    case Exchange::State::kMismatch: break;
  }
  complain("NCCL: %s", exchange.mismatch().c_str());
  communicator->error = nccl_error(ncclRemoteError, exchange.mismatch());
  process().lose(cudaErrorLaunchFailure);
  return true;
}

}  // namespace

CommunicatorPtr find_communicator(ncclComm_t handle) {
  const auto found = communicators().find(handle);
  return found == communicators().end() ? nullptr : found->second;
}

bool has_window(const void* pointer) {
  for (const auto& [handle, communicator] : communicators()) {
    for (const auto& window : communicator->windows) {
      if (window->begin == reinterpret_cast<uintptr_t>(pointer)) return true;
    }
  }
  return false;
}

ncclResult_t nccl_error(ncclResult_t result, const std::string& text) {
  error_text() = text;
  return result;
}
const char* last_nccl_error() {
  return error_text().c_str();
}

ncclResult_t begin(ncclComm& communicator, std::function<ncclResult_t()> work) {
  if (!communicator.blocking) {
    communicator.under_way = std::move(work);
    communicator.asked = 0;
    return ncclInProgress;
  }
  ncclResult_t result = ncclInProgress;
  while (result == ncclInProgress) result = work();
  return result;
}

ncclResult_t get_on(ncclComm& communicator) {
  constexpr int kAskedInVain = 2;  // so that who does not ask until the end is found out
  if (!communicator.under_way) return communicator.error;
  if (++communicator.asked <= kAskedInVain) return ncclInProgress;
  const ncclResult_t result = communicator.under_way();
  if (result == ncclInProgress) return result;
  communicator.under_way = nullptr;
  if (communicator.error == ncclSuccess) communicator.error = result;
  return communicator.error;
}

ncclResult_t ensure_ready(const ncclComm& communicator) {
  if (!communicator.under_way) return ncclSuccess;
  complain("NCCL: a call before the one before it is done (ncclInProgress)");
  return nccl_error(ncclInvalidArgument,
                    "Attempt to use communicator before the previous operation returned "
                    "ncclSuccess");
}

ncclResult_t initialize(ncclComm_t* handle, int ranks, const ncclUniqueId& id, int rank,
                        bool blocking) {
  *handle = nullptr;
  if (ranks < 1 || rank < 0 || rank >= ranks) {
    return nccl_error(ncclInvalidArgument, "no such rank");
  }
  auto communicator = std::make_shared<ncclComm>();
  communicator->rank = rank;
  communicator->size = ranks;
  communicator->device = current_device();
  communicator->thread = std::this_thread::get_id();
  communicator->blocking = blocking;
  if (ranks > 1) {
    int world_rank = -1, world_size = -1;
    if (mpi_runs()) {
      MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
      MPI_Comm_size(MPI_COMM_WORLD, &world_size);
    }
    if (world_rank != rank || world_size != ranks) {
      return nccl_error(ncclInvalidArgument,
                        "the imitated NCCL knows only the ranks of MPI_COMM_WORLD, all of them");
    }
  }
  auto* const meeting = ranks > 1 ? new Meeting(*communicator, id) : nullptr;
  const ncclResult_t result = begin(*communicator, [meeting] {
    if (settings().never_starts) return ncclInProgress;
    return meeting == nullptr ? ncclSuccess : meeting->get_on();
  });
  if (result != ncclSuccess && result != ncclInProgress) {
    if (communicator->world != MPI_COMM_NULL) MPI_Comm_free(&communicator->world);
    return result;
  }
  *handle = communicator.get();
  communicators()[communicator.get()] = communicator;
  return result;
}

void wait_for_calls(Lock& lock, ncclComm& communicator) {
  const MarkerPtr last = communicator.last;
  if (last != nullptr) process().scheduler.wait(lock, last);
}

// NCCL keeps waiting for that; nobody would see why.
void refuse_with_graphs(const ncclComm& communicator) {
  if (communicator.in_graphs.expired()) return;
  complain("NCCL: a communicator is given up while a graph holds its calls: this never ends");
  std::abort();
}

void destroy(const CommunicatorPtr& communicator) {
  if (communicator->world != MPI_COMM_NULL && mpi_runs()) MPI_Comm_free(&communicator->world);
  communicators().erase(communicator.get());
}

void abort(const CommunicatorPtr& communicator) {
  communicator->aborted = true;
  communicators().erase(communicator.get());
}

void issue(const CommunicatorPtr& communicator, const StreamPtr& stream, std::vector<Part> parts) {
  const bool captured = stream->capture != nullptr;
  Tally tally;
  for (const Part& part : parts) {
    const uint64_t bytes = part.count * nccl_element_bytes(part.type);
    tally.calls.emplace_back(name_of(part.call), bytes);
    if (!captured) count_bytes(name_of(part.call), bytes);
  }
  auto exchange = std::make_shared<Exchange>(communicator->world, communicator->rank,
                                             communicator->size, std::move(parts));
  if (captured) {
    tally.holds = communicator->in_graphs.lock();
    if (tally.holds == nullptr) tally.holds = std::make_shared<int>(0);
    communicator->in_graphs = tally.holds;
  }
  Scheduler& scheduler = process().scheduler;
  if (!captured && communicator->last != nullptr && communicator->last_stream != stream) {
    scheduler.enqueue_wait(stream, communicator->last);
  }
  process().issue(
      stream, [communicator, exchange] { return run(communicator, *exchange); }, std::move(tally));
  if (captured) return;  // ordered by its stream alone
  communicator->last = std::make_shared<Marker>();
  communicator->last_stream = stream;
  scheduler.enqueue_record(stream, communicator->last);
}

}  // namespace memwall::imitated
