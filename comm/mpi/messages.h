// Point-to-point messages in flight, in numbered places: MPI's requests with what they should
// carry.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/ledger.h"
#include "comm/mpi/session.h"
#include "comm/watchdog.h"

namespace memwall {

class MpiMessages {
 public:
  // What leaves this rank counts in `ledger`; `status` learns whom this rank waits for. Ranks are
  // those of `comm`, which carries nothing else: between two ranks messages match in order.
  MpiMessages(const MpiSession& session, MPI_Comm comm, size_t places, Ledger& ledger,
              WaitStatus& status);

  // Empty spans are no message. The place must be free.
  void send(Collective kind, int peer, std::span<const std::byte> data, size_t place);
  void receive(int peer, std::span<std::byte> data, size_t place);

  bool is_free(size_t place) const { return requests_[place] == MPI_REQUEST_NULL; }
  bool all_free() const { return in_flight_ == 0; }

  // Frees the places whose message is complete. False: none was. Throws an Error where MPI fails or
  // a message has another length than its receiver expects.
  bool collect();

 private:
  struct Message {
    int peer = 0;
    int64_t bytes = 0;
    bool is_send = false;
  };
  void note(int peer, int64_t bytes, bool is_send, size_t place);
  void check_length(size_t place, const MPI_Status& status) const;

  const MpiSession& session_;
  MPI_Comm comm_;
  Ledger& ledger_;
  WaitStatus& status_;
  int in_flight_ = 0;
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;
  std::vector<int> finished_;  // scratch of collect()
  std::vector<MPI_Status> statuses_;
};

}  // namespace memwall
