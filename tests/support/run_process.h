// Runs a command and keeps what it says.
#pragma once

#include <stdio.h>
#include <sys/wait.h>

#include <chrono>
#include <string>
#include <vector>

#include "runtime/base/error.h"

namespace memwall::test {

struct ProcessResult {
  int exit_code = 0;   // 128 + number where a signal ended it
  std::string output;  // standard output and standard error together
  double seconds = 0.0;
};

inline ProcessResult run_process(const std::vector<std::string>& command) {
  std::string line;
  for (const std::string& word : command) {
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += "' ";
  }
  const auto start = std::chrono::steady_clock::now();
  FILE* pipe = popen((line + "2>&1 < /dev/null").c_str(), "r");
  check(pipe != nullptr, "popen failed");
  ProcessResult result;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
    result.output.append(buffer, n);
  }
  const int status = pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  result.seconds = elapsed.count();
  return result;
}

}  // namespace memwall::test
