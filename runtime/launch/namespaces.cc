#include "runtime/launch/namespaces.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace memwall {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "memwall-";
constexpr const char* kNamespaceFolder = "/run/netns";  // where iproute2 keeps their names
constexpr std::string_view kNetwork = "10.77.0.0/24";

// What TCP needs for a steady rate on a throttled link. Cubic takes the throttle's jitter for
// congestion, and then a transfer in five stalls for 15 to 60 ms (4 hosts, 200 KB to each other
// one, 1 Gbit/s): Reno. A receive window that grows lets queues grow: fixed, `window_bytes`, a
// millisecond's. And what was learned in one job must not slow down the next.
std::string steady_tcp(int64_t window_bytes) {
  constexpr int64_t kLeastWindow = 131'072;
  return fmt::format(
      "cd /proc/sys/net/ipv4 && echo reno > tcp_congestion_control && echo 1 > tcp_no_metrics_save "
      "&& echo 0 > tcp_moderate_rcvbuf && echo '4096 {0} {0}' > tcp_rmem",
      std::max(kLeastWindow, window_bytes));
}

// A command that has to work.
std::string must(const std::vector<std::string>& words) {
  const Said said = run_and_read({words, {}});
  if (said.ended.ok()) return said.text;
  std::string lines;
  for (const std::string& line : last_lines_of(said.text, 2))
    lines += lines.empty() ? line : "; " + line;
  throw Error(
      fmt::format("cannot make hosts of network namespaces: {}", lines),
      fmt::format("{}", fmt::join(words, " ")),
      "--link needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN; in a container --privileged");
}

bool try_to(const std::vector<std::string>& words) {
  return run_and_read({words, {}}, true).ended.ok();
}

// The process that made the namespace of this name; nullopt where it is not one of ours.
std::optional<pid_t> maker_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  pid_t pid = 0;
  const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  const bool ours = error == std::errc() && rest != name.data() + name.size() && *rest == '-';
  return ours && pid > 0 ? std::optional(pid) : std::nullopt;
}

// The processors of this machine, as a mask in the kernel's notation.
std::string processors() {
  std::ifstream file("/proc/self/status");
  constexpr std::string_view kField = "Cpus_allowed:\t";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kField)) return line.substr(kField.size());
  }
  return "1";
}

// A connection's packets are received by one processor; else two overtake each other, which TCP
// takes for a loss.
bool keep_order(const std::string& where, const std::string& interface) {
  return try_to(
      {"ip", "netns", "exec", where, "/bin/bash", "-c",
       fmt::format("echo {} > /sys/class/net/{}/queues/rx-0/rps_cpus", processors(), interface)});
}

std::vector<std::string> namespaces_of(auto wanted) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(kNamespaceFolder, error)) {
    const std::string name = entry.path().filename();
    const std::optional<pid_t> maker = maker_of(name);
    if (maker && wanted(*maker)) out.push_back(name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Its processes first, or it would live on without a name.
void remove_namespace(const std::string& name) {
  for (int round = 0; round < 50; ++round) {
    const Said pids = run_and_read({{"ip", "netns", "pids", name}, {}}, true);
    const std::vector<std::string> lines = last_lines_of(pids.text, 100'000);
    if (!pids.ended.ok() || lines.empty()) break;
    for (const std::string& line : lines) {
      const pid_t pid = std::atoi(line.c_str());
      if (pid > 0) ::kill(pid, SIGKILL);
    }
    ::usleep(20'000);
  }
  try_to({"ip", "netns", "delete", name});
}

}  // namespace

int64_t parse_link_rate(const std::string& text) {
  double number = 0.0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string_view unit(rest, static_cast<size_t>(end - rest));
  double factor = 0.0;
  for (const auto& [name, value] :
       {std::pair{"kbit", 1e3}, std::pair{"mbit", 1e6}, std::pair{"gbit", 1e9}}) {
    if (unit == name) factor = value;
  }
  const double rate = number * factor;
  if (error == std::errc() && factor > 0.0 && rate >= 64e3 && rate <= 400e9) {
    return static_cast<int64_t>(rate);
  }
  throw InputError(fmt::format("\"{}\" is no rate of a link", text), "--link",
                   "64kbit to 400gbit, as 100mbit or 1gbit");
}

void check_can_make_namespaces() {
  for (const auto& [program, package] :
       {std::pair{"ip", "iproute2"}, std::pair{"tc", "iproute2"},
        std::pair{"unshare", "util-linux"}, std::pair{"taskset", "util-linux"},
        std::pair{"hostname", "hostname"}}) {
    if (is_in_path(program)) continue;
    throw InputError(fmt::format("the program {} is not in PATH", program), "--link",
                     fmt::format("install the package {}", package));
  }
  if (::geteuid() != 0) {
    throw InputError("only root can make hosts of network namespaces", "--link",
                     "run it as root, or leave --link out");
  }
}

std::vector<std::string> remove_abandoned_namespaces() {
  const std::vector<std::string> found =
      namespaces_of([](pid_t maker) { return ::kill(maker, 0) != 0 && errno == ESRCH; });
  for (const std::string& name : found) remove_namespace(name);
  return found;
}

NamespaceHosts::NamespaceHosts(int64_t count, int64_t bits_per_second,
                               const std::string& scratch_folder, std::vector<int> cores)
    : count_(count),
      maker_(::getpid()),
      agent_(fs::absolute(scratch_folder) / "reach-host.sh"),
      cores_(std::move(cores)) {
  if (count < 1 || count > kMost) {
    throw InputError(fmt::format("{} hosts; there is room for 1 to {}", count, kMost), "--link");
  }
  try {
    write_agent();
    make(bits_per_second);
  } catch (...) {
    remove();
    throw;
  }
}

NamespaceHosts::~NamespaceHosts() {
  remove();
}

std::string NamespaceHosts::name(int64_t host) const {
  return fmt::format("{}{}-{}", kPrefix, maker_, host);
}
std::string NamespaceHosts::switch_name() const {
  return fmt::format("{}{}-switch", kPrefix, maker_);
}
std::string NamespaceHosts::address(int64_t host) {
  return fmt::format("10.77.0.{}", host);
}

void NamespaceHosts::make(int64_t bits_per_second) {
  const std::string hub = switch_name();
  // What passes at once after a pause is what a link does not hold back: half a millisecond's
  // bytes, and not less than ten packets. (At 1 Gbit/s that is just above TCP's segments of 64 KiB.
  // Smaller ones are cut into packets, and two cores are too slow for those.) The queue is long
  // enough to lose none.
  constexpr int64_t kLeastBurst = 16'384, kQueueBytes = int64_t{16} << 20;
  const int64_t burst = std::max(kLeastBurst, bits_per_second / 8 / 1800);
  const auto throttle = [&](const std::string& where, const std::string& interface) {
    must({"tc", "-n", where, "qdisc", "add", "dev", interface, "root", "tbf", "rate",
          fmt::format("{}bit", bits_per_second), "burst", fmt::format("{}b", burst), "limit",
          fmt::format("{}b", kQueueBytes)});
  };
  must({"ip", "netns", "add", hub});
  must({"ip", "-n", hub, "link", "add", "bridge", "type", "bridge"});
  must({"ip", "-n", hub, "link", "set", "bridge", "up"});
  bool steady = true;
  for (int64_t host = 1; host <= count_; ++host) {
    const std::string here = name(host), port = fmt::format("port{}", host);
    must({"ip", "netns", "add", here});
    must({"ip", "link", "add", "eth0", "netns", here, "type", "veth", "peer", "name", port, "netns",
          hub});
    must({"ip", "-n", hub, "link", "set", port, "master", "bridge"});
    must({"ip", "-n", hub, "link", "set", port, "up"});
    must({"ip", "-n", here, "address", "add", address(host) + "/24", "dev", "eth0"});
    must({"ip", "-n", here, "link", "set", "lo", "up"});
    must({"ip", "-n", here, "link", "set", "eth0", "up"});
    for (const bool done : {try_to({"ip", "netns", "exec", here, "/bin/bash", "-c",
                                    steady_tcp(bits_per_second / 8 / 1000)}),
                            keep_order(here, "eth0"), keep_order(hub, port)}) {
      steady = steady && done;
    }
    throttle(here, "eth0");
    throttle(hub, port);
  }
  if (steady) return;
  fmt::print(stderr,
             "memwall: warning: the system keeps TCP of the imitated hosts as it is (/proc/sys or "
             "/sys cannot be written): transfers may stall now and then\n");
}

// mpirun calls it as it would ssh: OPTIONS HOST COMMAND. Each host has a hostname of its own, for
// Open MPI tells hosts apart by it.
std::string NamespaceHosts::cores_of(int64_t host) const {
  const auto cores = static_cast<int64_t>(cores_.size());
  if (cores == 0) return "";
  const int64_t each = std::max<int64_t>(1, cores / count_);
  std::string out;
  for (int64_t k = 0; k < each; ++k) {
    const int core = cores_[static_cast<size_t>(((host - 1) * each + k) % cores)];
    out += (k > 0 ? "," : "") + std::to_string(core);
  }
  return out;
}

void NamespaceHosts::write_agent() const {
  std::string pins;
  for (int64_t host = 1; host <= count_ && !cores_.empty(); ++host) {
    pins += fmt::format("  {}{}-{}) taskset -cp {} $$ >/dev/null ;;\n", kPrefix, maker_, host,
                        cores_of(host));
  }
  if (!pins.empty()) pins = "case $host in\n" + pins + "esac\n";
  std::ofstream(agent_) << fmt::format(R"(#!/bin/bash
while [[ ${{1:-}} == -* ]]; do shift; done
host={}${{1##*.}}
shift
{}exec ip netns exec "$host" unshare --uts /bin/bash -c "hostname $host; $*"
)",
                                       fmt::format("{}{}-", kPrefix, maker_), pins)
                        << std::flush;
  std::error_code error;
  fs::permissions(agent_, fs::perms::owner_all, error);
  if (error) throw Error("cannot be written: " + error.message(), agent_);
}

void NamespaceHosts::remove() const noexcept {
  try {
    for (const std::string& name : namespaces_of([this](pid_t maker) { return maker == maker_; })) {
      remove_namespace(name);
    }
    std::error_code ignored;
    fs::remove(agent_, ignored);
  } catch (const std::exception& error) {
    fmt::print(stderr, "memwall: warning: {}\n", error.what());
  }
}

std::vector<std::string> NamespaceHosts::mpirun(int64_t hosts, int64_t slots) const {
  std::string list;
  for (int64_t host = 1; host <= hosts; ++host) {
    list += fmt::format("{}{}:{}", host > 1 ? "," : "", address(host), slots);
  }
  const std::string first = name(1), network(kNetwork);
  return {"ip",
          "netns",
          "exec",
          first,
          "unshare",
          "--uts",
          "/bin/bash",
          "-c",
          cores_.empty() ? "hostname \"$0\"; exec \"$@\""
                         : fmt::format("taskset -cp {} $$ >/dev/null; hostname \"$0\"; exec \"$@\"",
                                       cores_of(1)),
          first,
          "mpirun",
          "--mca",
          "plm",
          "rsh",
          "--mca",
          "plm_rsh_agent",
          agent_,
          "--host",
          list,
          "--mca",
          "pml",
          "ob1",
          "--mca",
          "btl",
          slots > 1 ? "tcp,self,vader" : "tcp,self",
          "--mca",
          "btl_tcp_if_include",
          network,
          "--mca",
          "oob_tcp_if_include",
          network};
}

int64_t NamespaceHosts::sent_bytes(int64_t host) const {
  const std::string text =
      must({"ip", "-n", name(host), "-s", "-j", "link", "show", "dev", "eth0"});
  return nlohmann::json::parse(text).at(0).at("stats64").at("tx").at("bytes").get<int64_t>();
}

}  // namespace memwall
