// Requests to save or to stop, and how ranks agree on them: each writes what it was asked for into
// the step's scalars, as a number that sums over ranks.
#pragma once

#include <signal.h>

namespace memwall {

struct StepRequests {
  bool save = false;  // after this step
  bool stop = false;  // save after this step, and end
};

// A sum of what up to 2^19 ranks encoded decodes to what any of them asked for.
double encode(const StepRequests& requests);
StepRequests decode_requests(double sum);

// While one lives, SIGUSR1 asks to stop and SIGUSR2 to save; the handlers before it come back.
// Objects may nest and share what was asked for, so an early one keeps start-up safe from signals.
class RequestSignals {
 public:
  RequestSignals();
  ~RequestSignals();
  RequestSignals(const RequestSignals&) = delete;
  RequestSignals& operator=(const RequestSignals&) = delete;

  StepRequests pending() const;
  void saved();  // answers every request to save that came until now

 private:
  struct sigaction previous_stop_ {};
  struct sigaction previous_save_ {};
};

}  // namespace memwall
