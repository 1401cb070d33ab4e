#include "comm/make_communicator.h"

#include <string>

#include "comm/mpi/mpi_communicator.h"
#include "comm/self/self_communicator.h"
#include "comm/shared/shared_communicator.h"

namespace memwall {

Transport choose_transport(std::optional<Transport> asked, int64_t ranks, int64_t ranks_on_host) {
  if (ranks == 1) return Transport::kMpi;
  const bool one_host = ranks_on_host == ranks;
  if (!asked) {
    return one_host && ranks <= kMostRanksSharing ? Transport::kSharedMemory : Transport::kMpi;
  }
  if (*asked == Transport::kMpi || one_host) return *asked;
  throw InputError("transport SHARED_MEMORY needs all " + std::to_string(ranks) +
                       " ranks on one host, but only " + std::to_string(ranks_on_host) +
                       " are on this one",
                   "", "choose AUTO or MPI, or start all ranks on one host");
}

std::unique_ptr<Communicator> make_communicator(const MpiSession* session, double timeout_seconds,
                                                Transport transport) {
  if (session == nullptr || session->size() == 1) return std::make_unique<SelfCommunicator>();
  if (choose_transport(transport, session->size(), session->ranks_on_host()) == Transport::kMpi) {
    return std::make_unique<MpiCommunicator>(*session,
                                             MpiOptions{.timeout_seconds = timeout_seconds});
  }
  return std::make_unique<SharedCommunicator>(*session,
                                              SharedOptions{.timeout_seconds = timeout_seconds});
}

}  // namespace memwall
