// The description of a cluster: configs/cluster.proto has the meaning and unit of every field.
//
// Errors are InputError, one line a problem and at most five: `FILE:LINE: FIELD: reason (allowed:
// ...)`.
#pragma once

#include <string>
#include <vector>

#include "configs/cluster.pb.h"

namespace memwall {

// Reads `path`, checks that every field is there and possible, and fills in the defaults.
config::Cluster load_cluster(const std::string& path);

// Writes what load_cluster reads back, below `header` as lines of comment. InputError where the
// file cannot be written.
void write_cluster(const std::string& path, const config::Cluster& cluster,
                   const std::vector<std::string>& header);
// The lines of comment that a description begins with.
std::vector<std::string> cluster_header(const std::string& path);

}  // namespace memwall
