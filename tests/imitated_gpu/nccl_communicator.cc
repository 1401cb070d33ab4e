#include "tests/imitated_gpu/nccl_communicator.h"

#include <unistd.h>

#include <cstring>
#include <map>
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

// Meets the other ranks: all with one id, and no two on one device.
ncclResult_t meet(ncclComm& communicator, const ncclUniqueId& id) {
  Member self{};
  self.id = id;
  gethostname(self.host, sizeof(self.host) - 1);
  self.device = settings().first + communicator.device;
  std::vector<Member> members(static_cast<size_t>(communicator.size));
  MPI_Comm_dup(MPI_COMM_WORLD, &communicator.world);
  MPI_Allgather(&self, sizeof(self), MPI_BYTE, members.data(), sizeof(self), MPI_BYTE,
                communicator.world);
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

ncclResult_t nccl_error(ncclResult_t result, const std::string& text) {
  error_text() = text;
  return result;
}
const char* last_nccl_error() {
  return error_text().c_str();
}

ncclResult_t initialize(ncclComm_t* handle, int ranks, const ncclUniqueId& id, int rank) {
  *handle = nullptr;
  if (ranks < 1 || rank < 0 || rank >= ranks) {
    return nccl_error(ncclInvalidArgument, "no such rank");
  }
  auto communicator = std::make_shared<ncclComm>();
  communicator->rank = rank;
  communicator->size = ranks;
  communicator->device = current_device();
  communicator->thread = std::this_thread::get_id();
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
    const ncclResult_t met = meet(*communicator, id);
    if (met != ncclSuccess) {
      MPI_Comm_free(&communicator->world);
      return met;
    }
  }
  *handle = communicator.get();
  communicators()[communicator.get()] = communicator;
  return ncclSuccess;
}

void wait_for_calls(Lock& lock, ncclComm& communicator) {
  const MarkerPtr last = communicator.last;
  if (last != nullptr) process().scheduler.wait(lock, last);
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
  for (const Part& part : parts) {
    count_bytes(name_of(part.call), part.count * nccl_element_bytes(part.type));
  }
  auto exchange = std::make_shared<Exchange>(communicator->world, communicator->rank,
                                             communicator->size, std::move(parts));
  Scheduler& scheduler = process().scheduler;
  const bool captured = stream->capture != nullptr;
  if (!captured && communicator->last != nullptr && communicator->last_stream != stream) {
    scheduler.enqueue_wait(stream, communicator->last);
  }
  process().issue(stream, [communicator, exchange] { return run(communicator, *exchange); });
  if (captured) return;  // ordered by its stream alone
  communicator->last = std::make_shared<Marker>();
  communicator->last_stream = stream;
  scheduler.enqueue_record(stream, communicator->last);
}

}  // namespace memwall::imitated
