// Child processes: started without a shell, waited for with a time limit, and ended with everything
// they started when a signal asks this process to end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/error.h"

namespace memwall {

struct Command {
  std::vector<std::string> words;        // the program, looked up in PATH, and its arguments
  std::vector<std::string> environment;  // "NAME=VALUE", on top of this process's
};

// A signal asked this process to end: whatever it started has ended, exit code 1.
class Interrupted : public Error {
 public:
  using Error::Error;
};

// While one exists, SIGINT, SIGTERM and SIGHUP wait to be seen by `run`, which then ends the child
// and throws Interrupted, so that every destructor on the way runs; and processes that a child
// leaves behind become this one's, so that they can be found and ended. One at a time, in a
// process of one thread.
class ProcessGuard {
 public:
  ProcessGuard();
  ~ProcessGuard();  // signals that came meanwhile take effect as before
  ProcessGuard(const ProcessGuard&) = delete;
  ProcessGuard& operator=(const ProcessGuard&) = delete;

  // Throws Interrupted where a signal has come.
  void check_signals() const;
};

struct Ended {
  int exit_code = 0;  // 128 + its number where a signal ended it
  bool timed_out = false;
  bool ok() const { return exit_code == 0 && !timed_out; }
};

// Runs the command in a process group of its own, with nothing to read; what it says goes to the
// file `log`, which is made or emptied. After `limit_seconds`, or on a signal, it is sent SIGTERM,
// seconds later it and all that it started SIGKILL. Where this process is killed it gets SIGTERM.
// Error where the program cannot be started. Needs a ProcessGuard.
Ended run(const Command& command, const std::string& log,
          std::optional<double> limit_seconds = std::nullopt);

struct Said {
  Ended ended;
  std::string text;  // standard output and standard error together
};
// `holds_signals`: they wait until it is over; for what must not be left half done.
Said run_and_read(const Command& command, bool holds_signals = false);

// Several at once, under one limit; in their order.
std::vector<Said> run_together_and_read(const std::vector<Command>& commands, double limit_seconds);

bool is_in_path(std::string_view program);

// The last `count` lines of a file that say something, each without what a terminal would not
// show; fewer where there are fewer.
std::vector<std::string> last_lines(const std::string& path, size_t count);
std::vector<std::string> last_lines_of(std::string_view text, size_t count);

}  // namespace memwall
