// Puts what was timed into a cluster's description, and fits its rates anew.
#pragma once

#include <string>
#include <vector>

#include "configs/cluster.pb.h"
#include "runtime/cost/machine.h"

namespace memwall {

// A kind of work of a step, timed.
struct TimedOp {
  Op op = Op::kCopy;
  DType dtype = DType::kF32;
  OpPoint point;
};

// Where something was timed: a device is a rank with its threads, a node a host with its ranks.
struct TimedOn {
  std::string processor;
  int64_t threads = 1, ranks_a_node = 1;

  std::string device_name() const;  // "2 threads of PROCESSOR"
};

// InputError unless `cluster`, of `file`, describes such devices and nodes. So what was timed is
// never put into the description of another machine, nor into one that was written by hand.
void check_describes(const config::Cluster& cluster, const std::string& file, const TimedOn& here);

// A description of one node from steps that were timed: peaks are the best that was reached,
// fractions what was reached on the whole. The link inside the node is a copy's half of the
// memory's bandwidth until it is measured. InputError where nothing of `timed` is a matrix product.
config::Cluster cluster_of(const std::vector<TimedOp>& timed, const TimedOn& here,
                           int64_t memory_bytes);

// Steps of a work that the description has already replace the older ones. The general rates are
// those of all steps, old and new.
void add_ops(config::Cluster& cluster, const std::vector<TimedOp>& timed);

// A collective by one algorithm over one transport; points of equal ranks and bytes replace the
// older ones.
struct TimedCollective {
  Op op = Op::kAllGather;
  Algorithm algorithm = Algorithm::kPairwise;
  Transport transport = Transport::kMpi;
  std::vector<TransferPoint> points;
};
// Afterwards the node's general link is that of the all-gather over shared memory where that was
// timed, else by ring, else pairwise; and its NICs likewise. `file`: for messages. InputError where
// the points' nodes are of another number of ranks than the description's.
void add_collectives(config::Cluster& cluster, const std::string& file,
                     const std::vector<TimedCollective>& timed);

// The head of `file`, where it is there, and a line that says what was done today; then `cluster`.
// Replaces the file as a whole.
void write_fit(const std::string& file, const config::Cluster& cluster, const std::string& done);

}  // namespace memwall
