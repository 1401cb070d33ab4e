// A stand-in for a full disk: files of this process may not grow beyond a size.
#pragma once

#include <signal.h>
#include <sys/resource.h>

#include "runtime/base/error.h"

namespace memwall::test {

class FileLimit {
 public:
  explicit FileLimit(int64_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    check(getrlimit(RLIMIT_FSIZE, &before_) == 0, "getrlimit");
    rlimit limited = before_;
    limited.rlim_cur = static_cast<rlim_t>(bytes);
    check(setrlimit(RLIMIT_FSIZE, &limited) == 0, "setrlimit");
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit before_{};
  sighandler_t handler_;
};

}  // namespace memwall::test
