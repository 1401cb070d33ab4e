// The cost model's rates from what was timed.
#pragma once

#include <vector>

#include "runtime/cost/collective_cost.h"
#include "runtime/cost/machine.h"

namespace memwall {

// seconds = count * offset + amount * slope
struct TimedAmount {
  double count = 1.0, amount = 0.0, seconds = 0.0;
};
struct Line {
  double offset = 0.0, slope = 0.0;
};
// The line with the smallest sum of squared relative errors among those with neither number below
// 0. Points take time; without any, both numbers are 0.
Line fit_line(const std::vector<TimedAmount>& timed);

// The rate of a kind of step, corrected by the points themselves (op_cost.h). What decides is FLOPs
// for matrix products, and for steps that take more than twice as long as their bytes at
// `dram_bandwidth` do; else bytes. At least one point; where the points show no more than what a
// launch takes, the rate is one that none of them would notice.
OpRate fit_op_rate(Op op, DType dtype, const std::vector<OpPoint>& points, double dram_bandwidth);

// The rate of a collective, likewise. Points of ranks on one node give its link, others its NICs:
// what the link inside a node takes of a ring or a pairwise exchange between nodes is not told
// apart, and of two levels the inner one takes what `machine` says. A link that no point is of
// stays the machine's.
TransferRate fit_transfer_rate(Op op, Algorithm algorithm, Transport transport,
                               const std::vector<TimedTransfer>& timed, const Machine& machine);

}  // namespace memwall
