// A communicator of the imitated NCCL, and how its calls reach a stream.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <memory>
#include <string>
#include <thread>

#include "tests/imitated_gpu/nccl_exchange.h"
#include "tests/imitated_gpu/process.h"

struct ncclComm {
  MPI_Comm world = MPI_COMM_NULL;  // null with one rank
  int rank = 0, size = 1, device = 0;
  std::thread::id thread;  // that made it: MPI is called from no other
  bool aborted = false;
  ncclResult_t error = ncclSuccess;

  // Calls of one communicator run in the order in which they were made, whatever their streams.
  memwall::imitated::StreamPtr last_stream;
  memwall::imitated::MarkerPtr last;
};

namespace memwall::imitated {

using CommunicatorPtr = std::shared_ptr<ncclComm>;

CommunicatorPtr find_communicator(ncclComm_t handle);  // null: no such

// Keeps the text for ncclGetLastError and returns the result.
ncclResult_t nccl_error(ncclResult_t result, const std::string& text);
const char* last_nccl_error();

ncclResult_t initialize(ncclComm_t* handle, int ranks, const ncclUniqueId& id, int rank);
void wait_for_calls(Lock& lock, ncclComm& communicator);
void destroy(const CommunicatorPtr& communicator);  // all its calls have run
void abort(const CommunicatorPtr& communicator);    // those that have not will do nothing

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
