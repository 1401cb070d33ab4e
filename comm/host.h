// The name of the machine, for messages.
#pragma once

#include <string>

namespace memwall {

std::string host_name();  // "?" where the system does not say

}  // namespace memwall
