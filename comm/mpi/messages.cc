#include "comm/mpi/messages.h"

#include <string>

#include "runtime/base/error.h"

namespace memwall {

namespace {

constexpr int kTag = 1;

}  // namespace

MpiMessages::MpiMessages(const MpiSession& session, MPI_Comm comm, size_t places, Ledger& ledger,
                         WaitStatus& status)
    : session_(session),
      comm_(comm),
      ledger_(ledger),
      status_(status),
      requests_(places, MPI_REQUEST_NULL),
      messages_(places),
      finished_(places),
      statuses_(places) {}

void MpiMessages::note(int peer, int64_t bytes, bool is_send, size_t place) {
  messages_[place] = {peer, bytes, is_send};
  ++in_flight_;
  status_.expect(peer);
}

// The one place where bytes leave this rank.
void MpiMessages::send(Collective kind, int peer, std::span<const std::byte> data, size_t place) {
  if (data.empty()) return;
  session_.check(MPI_Isend(data.data(), static_cast<int>(data.size()), MPI_BYTE, peer, kTag, comm_,
                           &requests_[place]),
                 "MPI_Isend");
  ledger_[kind].wire_bytes += static_cast<int64_t>(data.size());
  note(peer, static_cast<int64_t>(data.size()), true, place);
}

void MpiMessages::receive(int peer, std::span<std::byte> data, size_t place) {
  if (data.empty()) return;
  session_.check(MPI_Irecv(data.data(), static_cast<int>(data.size()), MPI_BYTE, peer, kTag, comm_,
                           &requests_[place]),
                 "MPI_Irecv");
  note(peer, static_cast<int64_t>(data.size()), false, place);
}

bool MpiMessages::collect() {
  if (in_flight_ == 0) return false;
  int count = 0;
  const int result = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                  finished_.data(), statuses_.data());
  if (result == MPI_ERR_IN_STATUS) {
    for (int i = 0; i < count; ++i) {
      session_.check(statuses_[static_cast<size_t>(i)].MPI_ERROR, "MPI_Testsome");
    }
  }
  session_.check(result, "MPI_Testsome");
  if (count <= 0) return false;
  for (int i = 0; i < count; ++i) {
    const auto place = static_cast<size_t>(finished_[static_cast<size_t>(i)]);
    check_length(place, statuses_[static_cast<size_t>(i)]);
    status_.answered(messages_[place].peer);
  }
  in_flight_ -= count;
  return true;
}

// A longer message than expected fails in MPI; a shorter one must be found here.
void MpiMessages::check_length(size_t place, const MPI_Status& status) const {
  const Message& message = messages_[place];
  if (message.is_send) return;
  int bytes = 0;
  session_.check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  if (bytes == message.bytes) return;
  throw InternalError("rank " + std::to_string(message.peer) + " sent " + std::to_string(bytes) +
                          " bytes where " + std::to_string(message.bytes) +
                          " were due: the ranks' collectives differ",
                      session_.where());
}

}  // namespace memwall
