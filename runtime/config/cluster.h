// The description of a cluster: configs/cluster.proto has the meaning and unit of every field.
//
// Errors are InputError, one line a problem and at most five: `FILE:LINE: FIELD: reason (allowed:
// ...)`.
#pragma once

#include <string>

#include "configs/cluster.pb.h"

namespace memwall {

// Reads `path`, checks that every field is there and possible, and fills in the defaults.
config::Cluster load_cluster(const std::string& path);

}  // namespace memwall
