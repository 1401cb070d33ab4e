// The files that a page is made of, built into the program by embed.cmake.
#pragma once

#include <string_view>

namespace memwall::assets {

extern const std::string_view kPageTemplate, kPageStyle;
// The page's own scripts, in the order in which they stand in it.
extern const std::string_view kScriptFormat, kScriptCharts, kScriptRun, kScriptCompare, kScriptWall,
    kScriptMain;
extern const std::string_view kChartLibrary;       // Chart.js
extern const std::string_view kLicenses;           // of what the page holds of others
extern const std::string_view kTrends, kHardware;  // data of the memory wall

}  // namespace memwall::assets
