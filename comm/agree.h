// Start-up agreement between ranks, and errors that all ranks share. All functions are collective
// and blocking; what they throw is the same on every rank, so that one of them can print it.
#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "runtime/base/error.h"

namespace memwall {

// The rank that speaks to the user.
inline bool print_here(const Communicator& comm) {
  return comm.rank() == 0;
}

// An error that every rank has been told of: each of them throws it, none waits for another any
// more, and the job can end in an orderly way.
class SharedError : public Error {
 public:
  using Error::Error;
};

// Another rank has not answered. Where ranks fail together, an error of another kind is the cause.
class NoAnswer : public Error {
 public:
  using Error::Error;
};

// Items that must be equal on all ranks, e.g. {"configuration", hash}, in the same order. Throws a
// SharedError (bad input) that names the first item to differ, the lowest rank that differs from
// rank 0, both hosts and both values.
void check_agreement(Communicator& comm,
                     const std::vector<std::pair<std::string, std::string>>& items);

// Returns where no rank has an error (`mine` is null). Otherwise throws the error of the lowest
// rank that has one, and one that is no NoAnswer if there is, as a SharedError with its message and
// exit code, on every rank; the message says which rank it is, unless all ranks failed alike.
void throw_together(Communicator& comm, std::exception_ptr mine);

// Runs `body` on every rank (not collective itself), then throws together.
template <class Body>
void run_together(Communicator& comm, Body&& body) {
  std::exception_ptr mine;
  try {
    body();
  } catch (...) {
    mine = std::current_exception();
  }
  throw_together(comm, mine);
}

}  // namespace memwall
