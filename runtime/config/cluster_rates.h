// Checks of a description's measured rates. Private to this room.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/cluster.pb.h"
#include "runtime/config/problem.h"

namespace memwall {

// `place`: what a problem with a field begins with.
std::vector<Problem> problems_of_rates(const config::Cluster& cluster,
                                       const std::function<std::string(std::string_view)>& place);

}  // namespace memwall
