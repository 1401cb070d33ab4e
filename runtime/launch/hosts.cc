#include "runtime/launch/hosts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "runtime/base/error.h"
#include "runtime/launch/process.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTriedAtOnce = 32;

std::optional<int64_t> positive(std::string_view text) {
  int64_t out = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || rest != text.data() + text.size() || out < 1) return std::nullopt;
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
         });
}

Host host_of(std::string_view name, std::string_view slots, bool has_slots,
             const std::string& where) {
  const std::optional<int64_t> count = positive(slots);
  if (!is_name(name) || (has_slots && !count)) {
    throw InputError(fmt::format("\"{}\" is no host", name), where,
                     "a name, or a name and its slots: node1:4 in a list, node1 slots=4 in a file");
  }
  return {std::string(name), has_slots ? count : std::nullopt};
}

std::vector<Host> hosts_of_file(const std::string& path) {
  std::ifstream file(path);
  std::vector<Host> out;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string name, slots, more;
    if (!(words >> name)) continue;
    const std::string where = fmt::format("{}:{}", path, number);
    const bool has_slots = static_cast<bool>(words >> slots);
    if ((has_slots && !slots.starts_with("slots=")) || words >> more) {
      throw InputError(fmt::format("\"{}\" is not understood", more.empty() ? slots : more), where,
                       "a line is NAME or NAME slots=K");
    }
    out.push_back(
        host_of(name, has_slots ? std::string_view(slots).substr(6) : "", has_slots, where));
  }
  if (out.empty()) throw InputError("names no host", path);
  return out;
}

std::vector<Host> hosts_of_list(const std::string& list) {
  std::vector<Host> out;
  std::istringstream words(list);
  for (std::string word; std::getline(words, word, ',');) {
    const size_t colon = word.find(':');
    const bool has_slots = colon != std::string::npos;
    const std::string_view view = word;
    out.push_back(host_of(view.substr(0, colon), has_slots ? view.substr(colon + 1) : "", has_slots,
                          "--hosts"));
  }
  if (out.empty()) throw InputError("names no host", "--hosts", "as node1,node2 or a hostfile");
  return out;
}

}  // namespace

std::string_view name_of(Launch launch) {
  switch (launch) {
    case Launch::kLocal: return "local";
    case Launch::kHosts: return "hosts";
    case Launch::kSlurm: return "slurm";
    case Launch::kNamespaces: return "namespaces";
  }
  throw InternalError("a launch without a name");
}

std::vector<Host> parse_hosts(const std::string& file_or_list) {
  const bool is_path = file_or_list.find('/') != std::string::npos;
  if (is_path && !fs::is_regular_file(file_or_list)) {
    throw InputError("no such file", file_or_list, "--hosts takes a hostfile or node1,node2");
  }
  std::vector<Host> out = is_path || fs::is_regular_file(file_or_list)
                              ? hosts_of_file(file_or_list)
                              : hosts_of_list(file_or_list);
  std::set<std::string> seen;
  for (const Host& host : out) {
    if (!seen.insert(host.name).second) {
      throw InputError(fmt::format("names {} twice", host.name), "--hosts");
    }
  }
  return out;
}

HostPlacement place(int64_t ranks, int64_t hosts, int64_t ranks_a_host) {
  if (ranks_a_host == 0) {
    if (ranks <= hosts) return {ranks, 1};
    if (ranks % hosts == 0) return {hosts, ranks / hosts};
    throw InputError(fmt::format("{} ranks do not divide among {} hosts", ranks, hosts), "--ranks",
                     fmt::format("at most {0}, or a multiple of {0}", hosts));
  }
  if (ranks % ranks_a_host != 0) {
    throw InputError(fmt::format("{} ranks do not divide among hosts of {}", ranks, ranks_a_host),
                     "--ranks", fmt::format("multiples of --ranks-per-host {}", ranks_a_host));
  }
  if (ranks / ranks_a_host > hosts) {
    throw InputError(fmt::format("{} ranks, {} a host, need {} hosts, and there are {}", ranks,
                                 ranks_a_host, ranks / ranks_a_host, hosts),
                     "--ranks");
  }
  return {ranks / ranks_a_host, ranks_a_host};
}

std::vector<std::string> local_mpirun(int64_t ranks, bool oversubscribed) {
  std::vector<std::string> out = {"mpirun", "--bind-to",
                                  "none",   "--oversubscribe",
                                  "--host", fmt::format("localhost:{}", ranks)};
  if (oversubscribed) out.insert(out.end(), {"--mca", "mpi_yield_when_idle", "1"});
  return out;
}

std::vector<std::string> hosts_mpirun(const std::vector<Host>& hosts, HostPlacement placement) {
  std::string list;
  for (int64_t i = 0; i < placement.hosts; ++i) {
    const Host& host = hosts[static_cast<size_t>(i)];
    if (host.slots && *host.slots < placement.ranks_a_host) {
      throw InputError(fmt::format("{} has {} slots, and would get {} ranks", host.name,
                                   *host.slots, placement.ranks_a_host),
                       "--hosts");
    }
    list += fmt::format("{}{}:{}", i > 0 ? "," : "", host.name, placement.ranks_a_host);
  }
  return {"mpirun", "--bind-to", "none", "--host", list};
}

std::vector<std::string> slurm_srun(HostPlacement placement) {
  std::vector<std::string> out = {"srun",
                                  "--mpi=pmix",
                                  "--kill-on-bad-exit=1",
                                  "-N",
                                  std::to_string(placement.hosts),
                                  "-n",
                                  std::to_string(placement.hosts * placement.ranks_a_host),
                                  fmt::format("--ntasks-per-node={}", placement.ranks_a_host)};
  // Since Slurm 22.05 srun does not take it over from the job.
  if (const char* cores = std::getenv("SLURM_CPUS_PER_TASK")) {
    out.push_back(fmt::format("--cpus-per-task={}", cores));
  }
  return out;
}

std::vector<std::string> root_environment() {
  if (::geteuid() != 0) return {};
  return {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
}

void try_hosts(const std::vector<Host>& hosts, const std::vector<std::string>& program,
               const std::string& expected, double limit_seconds) {
  std::vector<std::string> silent;
  std::string why;
  for (size_t first = 0; first < hosts.size(); first += kTriedAtOnce) {
    const size_t count = std::min(kTriedAtOnce, hosts.size() - first);
    std::vector<Command> commands;
    for (size_t i = 0; i < count; ++i) {
      Command command{hosts_mpirun({hosts[first + i]}, {1, 1}), root_environment()};
      command.words.insert(command.words.end(), {"-np", "1"});
      command.words.insert(command.words.end(), program.begin(), program.end());
      commands.push_back(std::move(command));
    }
    const std::vector<Said> said = run_together_and_read(commands, limit_seconds);
    for (size_t i = 0; i < count; ++i) {
      if (said[i].ended.ok() && said[i].text.find(expected) != std::string::npos) continue;
      silent.push_back(hosts[first + i].name);
      if (!why.empty()) continue;
      const std::vector<std::string> lines = last_lines_of(said[i].text, 1);
      why = said[i].ended.timed_out ? fmt::format("no answer within {:g} s", limit_seconds)
            : said[i].ended.ok()    ? fmt::format("\"{}\", where this host says \"{}\"",
                                               lines.empty() ? "" : lines[0], expected)
            : lines.empty()         ? fmt::format("exit code {}", said[i].ended.exit_code)
                                    : lines[0];
    }
  }
  if (silent.empty()) return;
  throw InputError(
      fmt::format("{} did not start {}: {}", fmt::join(silent, ", "), fmt::join(program, " "), why),
      "--hosts",
      "mpirun must reach every host by ssh without a password, and find the same "
      "binary there");
}

int64_t slurm_nodes() {
  for (const char* name : {"SLURM_JOB_NUM_NODES", "SLURM_NNODES"}) {
    if (const char* value = std::getenv(name)) {
      if (const std::optional<int64_t> nodes = positive(value)) return *nodes;
    }
  }
  throw InputError("this is no Slurm job", "--slurm", "run it inside one: sbatch, or salloc");
}

}  // namespace memwall
