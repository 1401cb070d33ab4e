#include "runtime/cli/environment.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <mpi.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "comm/host.h"
#include "runtime/kernels/machine.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

std::string mpi_library() {  // may be asked before MPI is started
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "?";
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string_view line(text);
  return std::string(line.substr(0, line.find(',')));
}

// What the launcher and OpenMP were told.
Json launch_variables() {
  Json out = Json::object();
  for (const char* name :
       {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_JOB_ID", "SLURM_NNODES"}) {
    if (const char* value = std::getenv(name)) out[name] = value;
  }
  return out;
}

Json machine() {
  utsname system{};
  uname(&system);
  return {{"processor", processor()},
          {"cpu_features", cpu_features()},
          {"system", fmt::format("{} {}", system.sysname, system.release)}};
}

}  // namespace

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
  }
  return "?";
}

Json environment_json(const Job& job, const std::vector<std::string>& command_line) {
  Json hosts = Json::array();
  const std::string mine = fmt::format("{} cores={} threads={}{}", host_name(), job.cores(),
                                       job.threads(), job.pinned() ? " pinned" : "");
  for (const std::string& rank : job.comm().gather_text(mine)) hosts.push_back(rank);
  return {{"memwall", MEMWALL_VERSION},
          {"compiled_for", MEMWALL_ARCH},
          {"compiler", __VERSION__},
          {"mpi", mpi_library()},
          {"started", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
          {"command", command_line},
          {"folder", std::filesystem::current_path().string()},
          {"launch", launch_variables()},
          {"machine", machine()},
          {"ranks", job.ranks()},
          {"hosts", hosts}};
}

}  // namespace memwall
