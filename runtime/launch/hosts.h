// Which hosts a job of so many ranks runs on, and the command that starts it there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace memwall {

enum class Launch { kLocal, kHosts, kSlurm, kNamespaces };
std::string_view name_of(Launch launch);  // "local", "hosts", "slurm", "namespaces"

struct Host {
  std::string name;
  std::optional<int64_t> slots;  // most ranks, where given
  bool operator==(const Host&) const = default;
};

// "a,b:2,c", or a file as mpirun's --hostfile takes it: a name a line, then perhaps slots=K.
// InputError where it is neither, or names a host twice.
std::vector<Host> parse_hosts(const std::string& file_or_list);

// So many hosts, the first of the list, each with the same number of ranks.
struct HostPlacement {
  int64_t hosts = 1, ranks_a_host = 1;
  bool operator==(const HostPlacement&) const = default;
};

// `ranks_a_host` of 0: one a host as long as there are hosts left, then all hosts. InputError where
// the ranks do not divide, or the hosts do not suffice.
HostPlacement place(int64_t ranks, int64_t hosts, int64_t ranks_a_host);

// `mpirun`, up to the program: on this host, with what Open MPI needs where ranks share cores.
std::vector<std::string> local_mpirun(int64_t ranks, bool oversubscribed);
std::vector<std::string> hosts_mpirun(const std::vector<Host>& hosts, HostPlacement placement);
std::vector<std::string> slurm_srun(HostPlacement placement);

// Open MPI does not start as root without these; empty for other users.
std::vector<std::string> root_environment();

// Starts `program` (memwall --version) on every host for itself and waits a few seconds. InputError
// with the names of those that do not answer, or answer with something else than `expected`. Needs
// a ProcessGuard.
void try_hosts(const std::vector<Host>& hosts, const std::vector<std::string>& program,
               const std::string& expected, double limit_seconds);

// The nodes of the Slurm job that this process is in; InputError outside of one.
int64_t slurm_nodes();

}  // namespace memwall
