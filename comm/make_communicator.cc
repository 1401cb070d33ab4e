#include "comm/make_communicator.h"

#include <string>

#include "comm/mpi/mpi_communicator.h"
#include "comm/self/self_communicator.h"
#include "comm/shared/shared_communicator.h"

namespace memwall {

Transport choose_transport(Transport asked, int ranks, int ranks_on_host) {
  if (asked == Transport::kMpi) return asked;
  if (ranks_on_host == ranks) return Transport::kSharedMemory;
  if (asked == Transport::kAuto) return Transport::kMpi;
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
