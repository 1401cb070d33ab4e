// The folder of a run: choosing, claiming and finding it.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "comm/communicator.h"

namespace memwall {

constexpr std::string_view kConfigFile = "config.textproto";
constexpr std::string_view kPlanFile = "plan.txt";
constexpr std::string_view kEnvironmentFile = "environment.json";

// Whether a run was started in `folder`.
bool holds_run(const std::string& folder);

// "runs/NAME-YYYYmmdd-HHMMSS", with -2, -3, ... where that exists.
std::string default_run_folder(std::string_view name, std::time_t now);

// Collective: what rank 0 chose, absolute and without links, on all ranks.
std::string agree_on_folder(Communicator& comm, const std::string& chosen_by_rank_0);

// Collective. Makes the folder on rank 0 and checks that every rank sees it. InputError on all
// ranks where one does not, naming it.
void make_run_folder(Communicator& comm, const std::string& folder);

// Makes `latest` beside a folder that lies in one called `runs` point to it.
void link_latest(const std::string& folder);

// The folder that the argument RUN of eval, generate, export and show names, links resolved.
// InputError where it is no run.
std::string find_run(const std::string& argument);

// The newest valid checkpoint of a run; InputError where there is none.
std::string find_checkpoint(const std::string& run_folder);

// "metrics/rank-00003.jsonl" of a run.
std::string metrics_path(const std::string& run_folder, int64_t rank);

}  // namespace memwall
