// The picture of a sweep: tokens a second with the ideal, efficiency, and where a step's time goes.
#pragma once

#include <string>

#include "runtime/cli/scale_record.h"

namespace memwall {

// A whole SVG file. Runs that are not done are left out.
std::string scale_svg(const ScaleReport& report);

}  // namespace memwall
