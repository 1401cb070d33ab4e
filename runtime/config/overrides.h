// `--set FIELD=VALUE`. Private to this room.
#pragma once

#include <string>
#include <vector>

#include "runtime/config/config.h"

namespace memwall {

void apply_overrides(GivenConfig& given, const std::vector<std::string>& overrides);

}  // namespace memwall
