// Hosts with throttled links on this machine: network namespaces, joined by a bridge in one more.
//
//   host 1  eth0 10.77.0.1 ----+
//   host 2  eth0 10.77.0.2 ----+ bridge           every cable throttled at both of its ends
//   ...                    ----+
//
// Linux alone, as root, with `ip` and `tc` of iproute2. Names are memwall-PID-K and
// memwall-PID-switch, PID being the process that made them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/launch/process.h"

namespace memwall {

// "100mbit", "1gbit", "2.5gbit" to bits a second: kbit, mbit and gbit are powers of 1000. From
// 64kbit to 400gbit; InputError where it is anything else.
int64_t parse_link_rate(const std::string& text);

// InputError where this process cannot make namespaces: not root, or no iproute2.
void check_can_make_namespaces();

// Removes namespaces whose maker is gone, with all processes in them. Returns their names.
// Needs a ProcessGuard, as all below.
std::vector<std::string> remove_abandoned_namespaces();

class NamespaceHosts {
 public:
  static constexpr int64_t kMost = 250;

  // `count` hosts, numbered from 1; `scratch_folder` gets the script by which mpirun reaches them.
  // `cores`: those of this machine that they share, each host an equal part, hosts that outnumber
  // them one each in turn; empty: the system places their processes. Error where the system
  // refuses; nothing is left behind then.
  NamespaceHosts(int64_t count, int64_t bits_per_second, const std::string& scratch_folder,
                 std::vector<int> cores = {});
  ~NamespaceHosts();  // removes all, and ends the processes in them
  NamespaceHosts(const NamespaceHosts&) = delete;
  NamespaceHosts& operator=(const NamespaceHosts&) = delete;

  std::string name(int64_t host) const;      // as its own hostname says
  static std::string address(int64_t host);  // "10.77.0.1"

  // `mpirun` in host 1 with `slots` on each of the first `hosts`, over the throttled links alone.
  std::vector<std::string> mpirun(int64_t hosts, int64_t slots) const;

  // Bytes that the host's interface has sent so far, headers included.
  int64_t sent_bytes(int64_t host) const;

 private:
  std::string switch_name() const;
  void make(int64_t bits_per_second);
  std::string cores_of(int64_t host) const;  // for taskset; "" where the system places it
  void write_agent() const;
  void remove() const noexcept;

  int64_t count_, maker_;  // maker_: this process
  std::string agent_;      // the script's path
  std::vector<int> cores_;
};

}  // namespace memwall
