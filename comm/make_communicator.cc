#include "comm/make_communicator.h"

#include "comm/mpi/mpi_communicator.h"
#include "comm/self/self_communicator.h"

namespace memwall {

std::unique_ptr<Communicator> make_communicator(MpiSession* session, double timeout_seconds) {
  if (session == nullptr || session->size() == 1) return std::make_unique<SelfCommunicator>();
  return std::make_unique<MpiCommunicator>(*session,
                                           MpiOptions{.timeout_seconds = timeout_seconds});
}

}  // namespace memwall
