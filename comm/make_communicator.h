// Which communicator a job gets.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "comm/mpi/session.h"

namespace memwall {

// Every rank maps the windows of all. Beyond this many ranks the choice is MPI, unless shared
// memory is asked for.
constexpr int64_t kMostRanksSharing = 16;

// What a configuration asks for; nullopt is AUTO.
struct FabricRequest {
  std::optional<Transport> transport;
  std::optional<Algorithm> algorithm;
};

// How a job's ranks lie on hosts. `ranks_a_node`: see MpiSession.
struct Hosting {
  int64_t ranks = 1, ranks_on_host = 1, ranks_a_node = 1;
  int64_t gpus_on_host = 0;          // 0: not known, taken for enough
  std::string gpu_target = "sm_90";  // what plans for these GPUs are made for
};
Hosting hosting_of(const MpiSession* session);  // null: one process

// Shared memory for up to kMostRanksSharing ranks that are all on one host, else MPI; over MPI
// windows for the ranks of each host where two levels are asked for or may be chosen, that is,
// between several hosts of several ranks each. (One rank needs nothing; MPI stands for it.) Throws
// an InputError where what is asked for cannot be: shared memory that does not reach all ranks or
// goes by another algorithm, two levels on hosts of unequal size.
Fabric choose_fabric(const FabricRequest& asked, const Hosting& hosting);

// Between GPUs: NCCL where every rank of a host has one of its own, else STAGED. Throws an
// InputError where what is asked for cannot be.
Fabric choose_gpu_fabric(const FabricRequest& asked, const Hosting& hosting);

// Over `fabric`, as choose_fabric has it, where `session` (null: none) has several ranks, else of
// this process alone. Collective. Between hosts a thread moves transfers while the caller computes.
// A wait in which nothing moves for `timeout_seconds` (0: no limit) ends the job. `session` must
// outlive the communicator. Throws a SharedError where windows do not fit the hosts' shared memory.
std::unique_ptr<Communicator> make_communicator(const MpiSession* session, double timeout_seconds,
                                                const Fabric& fabric = {});

}  // namespace memwall
