// The number of threads that a library's own parallel regions use, for a scope.
#pragma once

#include <omp.h>

namespace memwall::cpu {

class OpenMpThreads {
 public:
  explicit OpenMpThreads(int threads) : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
  }
  ~OpenMpThreads() {
    if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  }
  OpenMpThreads(const OpenMpThreads&) = delete;
  OpenMpThreads& operator=(const OpenMpThreads&) = delete;

 private:
  int before_;
};

}  // namespace memwall::cpu
