#include "runtime/launch/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::array<int, 3> kEnding = {SIGINT, SIGTERM, SIGHUP};
constexpr double kGraceSeconds = 8.0;  // mpirun itself takes two or three

sigset_t set_of(bool with_ending) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (int signal : kEnding) {
    if (with_ending) sigaddset(&set, signal);
  }
  return set;
}

// What the calling thread blocked before the guard.
sigset_t& mask_before() {
  static sigset_t mask;
  return mask;
}

int pending_signal() {
  sigset_t pending;
  sigpending(&pending);
  for (int signal : kEnding) {
    if (sigismember(&pending, signal) == 1) return signal;
  }
  return 0;
}

[[noreturn]] void throw_interrupted(int signal) {
  throw Interrupted(fmt::format("ended by {}", signal == SIGINT    ? "SIGINT"
                                               : signal == SIGTERM ? "SIGTERM"
                                                                   : "SIGHUP"));
}

// Takes the signal away, so that it does not end the process once more.
[[noreturn]] void take_signal(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  const timespec now{};
  sigtimedwait(&set, nullptr, &now);
  throw_interrupted(signal);
}

int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class Child {
 public:
  Child(const Command& command, int out) {
    int report[2];
    if (::pipe2(report, O_CLOEXEC) != 0) throw Error("cannot make a pipe", command.words[0]);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) become(command, out, parent, report[1]);
    ::close(report[1]);
    int error = 0;
    const bool failed = pid_ > 0 && ::read(report[0], &error, sizeof(error)) == sizeof(error);
    ::close(report[0]);
    if (pid_ < 0) throw Error("cannot start a process", command.words[0]);
    if (!failed) return;
    ::waitpid(pid_, nullptr, 0);
    throw InputError(fmt::format("cannot be started: {}", std::strerror(error)), command.words[0],
                     error == ENOENT ? "is it installed, and in PATH?" : "");
  }

  // Whether it has ended.
  bool ended() {
    if (!code_) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) code_ = exit_code_of(status);
    }
    return code_.has_value();
  }
  int exit_code() const { return *code_; }
  void send(int signal) {
    if (!ended()) ::kill(pid_, signal);
  }

 private:
  [[noreturn]] static void become(const Command& command, int out, pid_t parent, int report) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    ::setpgid(0, 0);
    ::signal(SIGPIPE, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &mask_before(), nullptr);
    const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::dup2(nothing, 0);
    ::dup2(out, 1);
    ::dup2(out, 2);
    for (const std::string& setting : command.environment) {
      const size_t equals = setting.find('=');
      ::setenv(setting.substr(0, equals).c_str(), setting.substr(equals + 1).c_str(), 1);
    }
    std::vector<char*> words;
    for (const std::string& word : command.words) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execvp(words[0], words.data());
    const int error = errno;
    (void)!::write(report, &error, sizeof(error));
    ::_exit(127);
  }

  pid_t pid_ = -1;
  std::optional<int> code_;
};

// Sleeps until a child ends, a signal asks this process to end, or the time has come. Returns that
// signal, or 0.
int wait_for_news(Clock::time_point until, bool holds_signals = false) {
  const sigset_t set = set_of(!holds_signals);
  const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(until - Clock::now());
  const int64_t ns = std::clamp<int64_t>(left.count(), 0, 200'000'000);
  const timespec timeout{ns / 1'000'000'000, ns % 1'000'000'000};
  const int signal = ::sigtimedwait(&set, nullptr, &timeout);
  return signal > 0 && signal != SIGCHLD ? signal : 0;
}

Clock::time_point after(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::vector<pid_t> orphans() {
  std::ifstream file(fmt::format("/proc/self/task/{}/children", ::getpid()));
  return {std::istream_iterator<pid_t>(file), {}};
}

// What a child has left behind is this process's now (ProcessGuard); one that dies may leave more.
void end_orphans() {
  for (int round = 0; round < 100; ++round) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const std::vector<pid_t> left = orphans();
    if (left.empty()) return;
    for (pid_t pid : left) ::kill(pid, SIGKILL);
    ::usleep(10'000);
  }
}

bool all_ended(std::vector<std::unique_ptr<Child>>& children) {
  return std::all_of(children.begin(), children.end(), [](auto& c) { return c->ended(); });
}

void end(std::vector<std::unique_ptr<Child>>& children) {
  for (auto& child : children) child->send(SIGTERM);
  const Clock::time_point until = after(kGraceSeconds);
  while (!all_ended(children) && Clock::now() < until) wait_for_news(until);
  for (auto& child : children) child->send(SIGKILL);
  while (!all_ended(children)) wait_for_news(after(1.0));
  end_orphans();
}

std::vector<Ended> await(std::vector<std::unique_ptr<Child>>& children,
                         std::optional<double> limit_seconds, bool holds_signals = false) {
  const Clock::time_point until = after(limit_seconds.value_or(1e8));
  bool timed_out = false;
  std::vector<bool> late(children.size(), false);
  while (!all_ended(children)) {
    if (const int signal = wait_for_news(until, holds_signals); signal != 0) {
      end(children);
      throw_interrupted(signal);
    }
    timed_out = Clock::now() >= until;
    if (!timed_out) continue;
    for (size_t i = 0; i < children.size(); ++i) late[i] = !children[i]->ended();
    end(children);
  }
  end_orphans();
  std::vector<Ended> out;
  for (size_t i = 0; i < children.size(); ++i) {
    out.push_back({children[i]->exit_code(), late[i]});
  }
  return out;
}

// A file descriptor, closed with it.
class Descriptor {
 public:
  Descriptor(int fd, const std::string& what) : fd_(fd) {
    if (fd < 0) throw Error(fmt::format("cannot be written: {}", std::strerror(errno)), what);
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string text_of(int fd) {
  std::string out;
  std::array<char, 4096> buffer{};
  ::lseek(fd, 0, SEEK_SET);
  for (ssize_t n = 0; (n = ::read(fd, buffer.data(), buffer.size())) > 0;) {
    out.append(buffer.data(), static_cast<size_t>(n));
  }
  return out;
}

std::vector<Said> run_all(const std::vector<Command>& commands, std::optional<double> limit_seconds,
                          bool holds_signals) {
  std::vector<std::unique_ptr<Descriptor>> outs;
  std::vector<std::unique_ptr<Child>> children;
  for (const Command& command : commands) {
    const int fd = ::memfd_create("output", MFD_CLOEXEC);
    outs.push_back(std::make_unique<Descriptor>(fd, command.words[0]));
    children.push_back(std::make_unique<Child>(command, fd));
  }
  const std::vector<Ended> ended = await(children, limit_seconds, holds_signals);
  std::vector<Said> out;
  for (size_t i = 0; i < ended.size(); ++i) out.push_back({ended[i], text_of(outs[i]->get())});
  return out;
}

}  // namespace

ProcessGuard::ProcessGuard() {
  const sigset_t set = set_of(true);
  ::sigprocmask(SIG_BLOCK, &set, &mask_before());
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

ProcessGuard::~ProcessGuard() {
  end_orphans();
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  ::sigprocmask(SIG_SETMASK, &mask_before(), nullptr);
}

void ProcessGuard::check_signals() const {
  if (const int signal = pending_signal(); signal != 0) take_signal(signal);
}

Ended run(const Command& command, const std::string& log, std::optional<double> limit_seconds) {
  const Descriptor out(::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), log);
  std::vector<std::unique_ptr<Child>> children;
  children.push_back(std::make_unique<Child>(command, out.get()));
  return await(children, limit_seconds)[0];
}

Said run_and_read(const Command& command, bool holds_signals) {
  return run_all({command}, std::nullopt, holds_signals)[0];
}

std::vector<Said> run_together_and_read(const std::vector<Command>& commands,
                                        double limit_seconds) {
  return run_all(commands, limit_seconds, false);
}

bool is_in_path(std::string_view program) {
  const char* path = std::getenv("PATH");
  std::string_view left = path == nullptr ? "/usr/bin:/bin" : path;
  while (!left.empty()) {
    const size_t colon = std::min(left.find(':'), left.size());
    const fs::path file = fs::path(left.substr(0, colon)) / program;
    if (::access(file.c_str(), X_OK) == 0) return true;
    left.remove_prefix(std::min(colon + 1, left.size()));
  }
  return false;
}

std::vector<std::string> last_lines_of(std::string_view text, size_t count) {
  std::vector<std::string> out;
  while (!text.empty() && out.size() < count) {
    const size_t newline = text.rfind('\n');
    const size_t from = newline == std::string_view::npos ? 0 : newline + 1;
    std::string line(text.substr(from));
    std::erase_if(line, [](unsigned char c) { return c < 0x20 && c != '\t'; });
    const bool is_rule = line.find_first_not_of(" -\t") == std::string::npos;  // mpirun's
    if (!is_rule) out.push_back(std::move(line));
    text = text.substr(0, newline == std::string_view::npos ? 0 : newline);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> last_lines(const std::string& path, size_t count) {
  std::ifstream file(path, std::ios::binary);
  return last_lines_of(std::string(std::istreambuf_iterator<char>(file), {}), count);
}

}  // namespace memwall
