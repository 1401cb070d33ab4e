// Starts the runs of a sweep as child processes, where they were asked to run.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "runtime/cli/scale_sweep.h"
#include "runtime/launch/namespaces.h"
#include "runtime/launch/process.h"

namespace memwall {

// `memwall` with these words on the ranks of a run. `memwall`: the binary's path; `cores`: of this
// host; `namespaces`: only with Launch::kNamespaces.
Command command_on(const Sweep& sweep, const ScaleRun& run, const std::string& memwall,
                   const std::vector<std::string>& words, int64_t cores,
                   const NamespaceHosts* namespaces);
Command train_command(const Sweep& sweep, const ScaleRun& run, const std::string& memwall,
                      int64_t cores, const NamespaceHosts* namespaces);

class ScaleLauncher {
 public:
  // Makes the hosts that --link asks for, large enough for the sweep's largest run, or tries those
  // of --hosts. InputError where one cannot be had. `guard` must outlive it; `say` gets what the
  // user should know.
  ScaleLauncher(const Sweep& sweep, const ProcessGuard& guard,
                const std::function<void(const std::string&)>& say);

  struct Result {
    std::string error;                    // "": it ended well
    std::vector<std::string> last_lines;  // of its log, where it did not
    std::optional<int64_t> link_bytes;    // sent by host 1, with --link
  };
  // Both wait for what they start. Throw Interrupted where a signal has ended it.
  Result train(const ScaleRun& run) const;
  // Measures the machine and its links as that run has them, and writes run.cluster.
  Result calibrate(const ScaleRun& run) const;

 private:
  Result start(const ScaleRun& run, const std::vector<std::string>& words,
               const std::string& log) const;

  const Sweep& sweep_;
  const ProcessGuard& guard_;
  std::string memwall_;
  int64_t cores_;
  std::optional<NamespaceHosts> namespaces_;
};

}  // namespace memwall
