// How far the ranks' steady clocks are apart, after Mills (RFC 5905, "Network Time Protocol version
// 4"): a message that one clock stamps when it leaves and the other when it arrives reads the
// offset of the clocks plus the way's delay. Of many messages in both directions the least delayed
// count.
#pragma once

#include <cstdint>
#include <functional>

#include "comm/communicator.h"

namespace memwall {

using ReadClock = std::function<int64_t()>;  // ns
int64_t steady_ns();                         // std::chrono::steady_clock

struct ClockOffset {
  int64_t offset_ns = 0;       // the other clock's reading less this one's
  int64_t uncertainty_ns = 0;  // the true offset lies within this of offset_ns
};

// The offset of another clock from this one, out of stamped messages.
class OffsetFilter {
 public:
  void outward(int64_t sent_here_ns, int64_t received_there_ns);
  void homeward(int64_t sent_there_ns, int64_t received_here_ns);
  int64_t least_outward_ns() const { return outward_; }
  int64_t least_homeward_ns() const { return homeward_; }

  // Half the difference of the least readings of both directions; uncertain by half their sum, the
  // round trip. InternalError without a message in each direction.
  ClockOffset offset() const;

 private:
  int64_t outward_ = INT64_MAX, homeward_ = INT64_MAX;
};

// The ranks' common time line: nanoseconds of rank 0's clock since it was made.
class RunClock {
 public:
  // Collective. Measures. Rank 0's clock is the reference, whatever it is.
  explicit RunClock(Communicator& comm, ReadClock now = steady_ns);

  // Collective: measures again, for clocks drift. Some milliseconds.
  void measure();

  int64_t run_ns(int64_t here_ns) const { return here_ns - offset_.offset_ns - origin_; }
  int64_t here_ns(int64_t run_ns) const { return run_ns + offset_.offset_ns + origin_; }
  // This rank's clock less rank 0's. Clocks of hosts that started at different times are far apart.
  const ClockOffset& offset() const { return offset_; }

 private:
  Communicator& comm_;
  ReadClock now_;
  int64_t origin_ = 0;  // by rank 0's clock
  ClockOffset offset_;
};

}  // namespace memwall
