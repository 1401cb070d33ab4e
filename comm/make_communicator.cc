#include "comm/make_communicator.h"

#include <string>

#include "comm/mpi/mpi_communicator.h"
#include "comm/self/self_communicator.h"
#include "comm/shared/shared_communicator.h"

namespace memwall {

Hosting hosting_of(const MpiSession* session) {
  if (session == nullptr) return {};
  return {session->size(), session->ranks_on_host(), session->ranks_a_node()};
}

namespace {

Transport choose_transport(const FabricRequest& asked, const Hosting& hosting) {
  const bool one_host = hosting.ranks_on_host == hosting.ranks;
  const bool pairwise = !asked.algorithm || *asked.algorithm == Algorithm::kPairwise;
  if (!asked.transport) {
    return one_host && pairwise && hosting.ranks <= kMostRanksSharing ? Transport::kSharedMemory
                                                                      : Transport::kMpi;
  }
  if (*asked.transport == Transport::kNccl || *asked.transport == Transport::kStaged) {
    throw InputError("transport " + std::string(name_of(*asked.transport)) + " is between GPUs",
                     "communication.transport",
                     "set run.device CUDA, or choose AUTO, MPI or SHARED_MEMORY");
  }
  if (*asked.transport == Transport::kMpi) return Transport::kMpi;
  if (!pairwise) {
    throw InputError("transport SHARED_MEMORY has no algorithm but PAIRWISE", "",
                     "choose transport AUTO or MPI, or algorithm AUTO or PAIRWISE");
  }
  if (one_host) return *asked.transport;
  throw InputError("transport SHARED_MEMORY needs all " + std::to_string(hosting.ranks) +
                       " ranks on one host, but only " + std::to_string(hosting.ranks_on_host) +
                       " are on this one",
                   "", "choose AUTO or MPI, or start all ranks on one host");
}

}  // namespace

Fabric choose_fabric(const FabricRequest& asked, const Hosting& hosting) {
  if (hosting.ranks == 1) return {};
  const Transport transport = choose_transport(asked, hosting);
  if (transport == Transport::kSharedMemory) return {transport, hosting.ranks};
  if (asked.algorithm == Algorithm::kTwoLevel) {
    if (hosting.ranks_a_node == 1 && hosting.ranks_on_host > 1) {
      throw InputError(
          "algorithm TWO_LEVEL needs the same number of ranks on every host, one host's following "
          "each other, but " +
              std::to_string(hosting.ranks_on_host) + " of " + std::to_string(hosting.ranks) +
              " are on this one",
          "", "start them so (mpirun --map-by slot, equal slots), or choose AUTO or RING");
    }
    return {transport, hosting.ranks_a_node};
  }
  const bool several_hosts = hosting.ranks_a_node < hosting.ranks;
  return {transport, !asked.algorithm && several_hosts ? hosting.ranks_a_node : 1};
}

Fabric choose_gpu_fabric(const FabricRequest& asked, const Hosting& hosting) {
  if (hosting.ranks == 1) return {};
  const bool enough = hosting.gpus_on_host == 0 || hosting.gpus_on_host >= hosting.ranks_on_host;
  const Transport transport =
      asked.transport.value_or(enough ? Transport::kNccl : Transport::kStaged);
  if (transport == Transport::kNccl && !enough) {
    throw InputError("transport NCCL needs a GPU for each rank, but this host has " +
                         std::to_string(hosting.gpus_on_host) + " for " +
                         std::to_string(hosting.ranks_on_host) + " ranks",
                     "communication.transport: NCCL",
                     "start fewer ranks on it, or choose AUTO or STAGED");
  }
  if (transport != Transport::kNccl && transport != Transport::kStaged) {
    throw InputError("transport " + std::string(name_of(transport)) + " does not reach GPUs",
                     "run.device: CUDA", "choose transport AUTO, NCCL or STAGED");
  }
  if (asked.algorithm && *asked.algorithm != Algorithm::kPairwise) {
    throw InputError("between GPUs the transport chooses the algorithm", "communication.algorithm",
                     "leave it out, or choose AUTO");
  }
  return {transport, 1};
}

std::unique_ptr<Communicator> make_communicator(const MpiSession* session, double timeout_seconds,
                                                const Fabric& fabric) {
  if (session == nullptr || session->size() == 1) return std::make_unique<SelfCommunicator>();
  if (fabric.transport == Transport::kSharedMemory) {
    return std::make_unique<SharedCommunicator>(*session,
                                                SharedOptions{.timeout_seconds = timeout_seconds});
  }
  return std::make_unique<MpiCommunicator>(
      *session, MpiOptions{.timeout_seconds = timeout_seconds,
                           .progress_thread = session->ranks_on_host() < session->size(),
                           .ranks_a_node = static_cast<int>(fabric.window_ranks)});
}

}  // namespace memwall
