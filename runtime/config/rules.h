// What can be checked of one field at a time, as tables. Private to this room.
#pragma once

#include <vector>

#include "runtime/config/config.h"
#include "runtime/config/problem.h"

namespace memwall {

using Problems = std::vector<Problem>;

// `whole` is effective(given.config). Each appends what it finds, in the tables' order.
void check_required(const GivenConfig& given, Purpose purpose, Problems& out);
void check_ranges(const GivenConfig& given, const config::Config& whole, Problems& out);
void check_device(const GivenConfig& given, const config::Config& whole, Purpose purpose,
                  Problems& out);
void check_effects(const GivenConfig& given, const config::Config& whole, Problems& out);

}  // namespace memwall
