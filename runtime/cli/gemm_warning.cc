#include "runtime/cli/gemm_warning.h"

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "comm/host.h"
#include "runtime/kernels/machine.h"

namespace memwall {

void warn_of_slow_products(Communicator& comm) {
  const std::string mine = gemm_library_warning();
  const std::vector<std::string> all =
      comm.gather_text(mine.empty() ? "" : host_name() + ": " + mine);
  if (comm.rank() != 0) return;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    fmt::print(stderr, "memwall: warning: rank {} on {}\n", rank, all[rank]);
    return;
  }
}

}  // namespace memwall
