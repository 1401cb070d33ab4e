// The traces of a run's ranks (run.trace_steps) as one file.
#pragma once

#include <string>
#include <vector>

namespace memwall {

// The plan that a trace was recorded of, or "" where `path` is no trace of Memwall's.
std::string plan_of_trace(const std::string& path);

// RUN/trace/rank-*.json, by rank.
std::vector<std::string> trace_files(const std::string& run_folder);

// One Chrome trace of all ranks of a run; their clocks agree, as each file's times are rank 0's.
// InputError where there is no trace, a rank's is missing or damaged, or two are of different
// plans: names the files.
std::string merged_traces(const std::string& run_folder);

}  // namespace memwall
