// Whether this machine lets a test make network namespaces.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace memwall::test {

// Why not; "" where it does.
inline std::string no_namespaces() {
  if (::geteuid() != 0) return "needs root";
  if (std::system("command -v ip >/dev/null && command -v tc >/dev/null") != 0) {
    return "needs ip and tc: install iproute2";
  }
  const std::string name = "memwalltest-" + std::to_string(::getpid());
  const std::string make = "ip netns add " + name + " >/dev/null 2>&1";
  const std::string drop = "ip netns delete " + name + " >/dev/null 2>&1";
  if (std::system(make.c_str()) != 0 || std::system(drop.c_str()) != 0) {
    return "this container may not make network namespaces";
  }
  return "";
}

// Names of those that process `pid` has made.
inline std::vector<std::string> namespaces_of(pid_t pid) {
  std::vector<std::string> out;
  const std::string prefix = "memwall-" + std::to_string(pid) + "-";
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/run/netns", none)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(prefix)) out.push_back(name);
  }
  return out;
}

}  // namespace memwall::test
