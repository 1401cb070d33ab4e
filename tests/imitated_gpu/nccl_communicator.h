// A communicator of the imitated NCCL, and how its calls reach a stream.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/imitated_gpu/nccl_exchange.h"
#include "tests/imitated_gpu/process.h"

namespace memwall::imitated {

struct Window {
  uintptr_t begin = 0;
  size_t bytes = 0;
  bool symmetric = false;
};

}  // namespace memwall::imitated

struct ncclComm {
  MPI_Comm world = MPI_COMM_NULL;  // null with one rank
  int rank = 0, size = 1, device = 0;
  std::thread::id thread;  // that made it: MPI is called from no other
  bool aborted = false;
  bool finalized = false;
  ncclResult_t error = ncclSuccess;

  // Of a communicator that does not block (config.blocking 0): what the last call still has to do.
  // It gets on only while the state is asked for, and returns ncclInProgress until it is done.
  bool blocking = true;
  std::function<ncclResult_t()> under_way;
  int asked = 0;  // for the state of that call
  std::vector<std::unique_ptr<memwall::imitated::Window>> windows;

  // Calls of one communicator run in the order in which they were made, whatever their streams.
  memwall::imitated::StreamPtr last_stream;
  memwall::imitated::MarkerPtr last;

  std::weak_ptr<void> in_graphs;  // alive while a graph has a call of this communicator
};

namespace memwall::imitated {

using CommunicatorPtr = std::shared_ptr<ncclComm>;

CommunicatorPtr find_communicator(ncclComm_t handle);  // null: no such
bool has_window(const void* pointer);                  // some communicator has one there

// Keeps the text for ncclGetLastError and returns the result.
ncclResult_t nccl_error(ncclResult_t result, const std::string& text);
const char* last_nccl_error();

ncclResult_t initialize(ncclComm_t* handle, int ranks, const ncclUniqueId& id, int rank,
                        bool blocking);

// Does the work of a call, or starts it.
ncclResult_t begin(ncclComm& communicator, std::function<ncclResult_t()> work);
ncclResult_t get_on(ncclComm& communicator);  // the communicator's state
// Refuses what comes before the last call has ended.
ncclResult_t ensure_ready(const ncclComm& communicator);

void wait_for_calls(Lock& lock, ncclComm& communicator);
void refuse_with_graphs(const ncclComm& communicator);  // ends the process where one has its calls
void destroy(const CommunicatorPtr& communicator);      // all its calls have run
void abort(const CommunicatorPtr& communicator);        // those that have not will do nothing

// Enqueues the parts, as one group.
void issue(const CommunicatorPtr& communicator, const StreamPtr& stream, std::vector<Part> parts);

// body(Lock&) -> ncclResult_t, under the library's lock.
template <class Body>
ncclResult_t nccl_api(const char* name, Body body) {
  if (inside_work()) return ncclInvalidUsage;
  Lock lock(process().mutex);
  if (enter(name) != cudaSuccess) return nccl_error(ncclUnhandledCudaError, "the device is lost");
  process().scheduler.drift();
  const ncclResult_t result = body(lock);
  process().scheduler.drift();
  return result;
}

}  // namespace memwall::imitated
