#include "runtime/cli/run_folder.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "comm/agree.h"
#include "comm/host.h"
#include "runtime/base/error.h"
#include "runtime/train/checkpoint.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

std::string broadcast_text(Communicator& comm, std::string text) {
  auto bytes = static_cast<int64_t>(text.size());
  comm.broadcast(&bytes, sizeof(bytes), 0);
  text.resize(static_cast<size_t>(bytes));
  comm.broadcast(text.data(), bytes, 0);
  return text;
}

void make_folders(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return;
  throw InputError("cannot make the run folder: " + error.message(), folder,
                   "choose another one with --run-dir");
}

// A file that one rank wrote and the others look for; gone when rank 0 leaves.
class Token {
 public:
  Token(const std::string& folder, int rank, const std::string& name)
      : path_(folder + '/' + name), owner_(rank == 0) {}
  ~Token() {
    std::error_code ignored;
    if (owner_) fs::remove(path_, ignored);
  }
  void write() const {
    if (owner_ && !(std::ofstream(path_) << std::flush)) {
      throw InputError("cannot write into the run folder", path_,
                       "choose another one with --run-dir");
    }
  }
  void expect(int rank) const {
    // Listing the folder makes a network file system look again.
    for (const auto& entry : fs::directory_iterator(fs::path(path_).parent_path())) {
      if (entry.path() == path_) return;
    }
    throw InputError(
        fmt::format("rank {} on {} does not see what rank 0 wrote there", rank, host_name()),
        fs::path(path_).parent_path(),
        "the run folder must be on a file system that all ranks share");
  }

 private:
  std::string path_;
  bool owner_;
};

}  // namespace

bool holds_run(const std::string& folder) {
  return fs::exists(fs::path(folder) / kConfigFile);
}

std::string default_run_folder(std::string_view name, std::time_t now) {
  const std::string first = fmt::format("runs/{}-{:%Y%m%d-%H%M%S}", name, fmt::localtime(now));
  std::string folder = first;
  for (int n = 2; fs::exists(folder); ++n) folder = fmt::format("{}-{}", first, n);
  return folder;
}

std::string agree_on_folder(Communicator& comm, const std::string& chosen_by_rank_0) {
  return broadcast_text(comm, fs::weakly_canonical(fs::absolute(chosen_by_rank_0)));
}

void make_run_folder(Communicator& comm, const std::string& folder) {
  const std::string name =
      broadcast_text(comm, fmt::format(".seen-by-all-{}-{}", host_name(), ::getpid()));
  const Token token(folder, comm.rank(), name);
  run_together(comm, [&] {
    if (comm.rank() != 0) return;
    make_folders(folder);
    token.write();
  });
  run_together(comm, [&] { token.expect(comm.rank()); });
}

void link_latest(const std::string& folder) {
  const fs::path parent = fs::path(folder).parent_path();
  if (parent.filename() != "runs") return;
  const fs::path link = parent / "latest", fresh = parent / fmt::format(".latest-{}", ::getpid());
  std::error_code error;
  fs::remove(fresh, error);
  fs::create_directory_symlink(fs::path(folder).filename(), fresh, error);
  if (!error) fs::rename(fresh, link, error);  // atomic: `latest` always points somewhere
  if (error) throw Error("cannot make the link: " + error.message(), link);
}

std::string find_run(const std::string& argument) {
  std::error_code error;
  const fs::path folder = fs::canonical(argument, error);
  if (error) throw InputError("no such run folder", argument);
  if (!holds_run(folder)) {
    throw InputError("is not a run folder: it has no " + std::string(kConfigFile), argument,
                     "name a folder that memwall train made, or runs/latest");
  }
  return folder;
}

std::string find_checkpoint(const std::string& run_folder) {
  const std::string folder = newest_checkpoint(run_folder);
  if (folder.empty()) {
    throw InputError("holds no valid checkpoint yet", run_folder,
                     "a run saves every run.save_every steps and then at its end too, and on "
                     "SIGUSR1 or SIGUSR2");
  }
  return folder;
}

std::string metrics_path(const std::string& run_folder, int64_t rank) {
  return fmt::format("{}/metrics/rank-{:05}.jsonl", run_folder, rank);
}

}  // namespace memwall
