// The built binary, run as a user runs it, in a folder of its own.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "tests/support/mpirun.h"

namespace memwall::test {

namespace fs = std::filesystem;

struct Outcome {
  int exit_code = 0;
  std::string out, err;
};

inline std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_text(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// A working folder with a text and a configuration, in which `memwall` is run; gone with it.
class Workplace {
 public:
  explicit Workplace(const std::string& name)
      : folder_(fs::temp_directory_path() / ("memwall-cli-" + name + "-" + unique())) {
    fs::create_directories(folder_);
    set_mpirun_environment();
    std::string text;
    for (int i = 0; i < 120; ++i) {
      text += "In the beginning was line " + std::to_string(i * i) + ", and it was short.\n";
    }
    write_text(folder_ / "text.txt", text);
    write_text(config(), R"(model { num_layers: 2 hidden_size: 16 num_heads: 2 context_length: 16
        vocab_size: 256 }
data { text: "text.txt" seq_length: 16 micro_batch_size: 2 global_batch_size: 4 }
optimizer { learning_rate: 0.01 }
schedule { kind: COSINE }
run { name: "tiny" steps: 6 eval_every: 3 save_every: 3 peak_flops: 1e9 }
)");
  }
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  fs::path path(const std::string& name) const { return folder_ / name; }
  fs::path config() const { return folder_ / "tiny.textproto"; }

  // `ranks` of 0: without mpirun.
  Outcome memwall(std::vector<std::string> words, int ranks = 0) const {
    words.insert(words.begin(), MEMWALL_BINARY);
    if (ranks > 0) {
      std::vector<std::string> launch = mpirun_command(ranks);
      launch.insert(launch.end(), words.begin(), words.end());
      words = std::move(launch);
    }
    return run(words);
  }

  // Any command, in the folder.
  Outcome run(const std::vector<std::string>& words) const {
    std::string line = "cd " + quoted(folder_) + " && exec";
    for (const std::string& word : words) line += ' ' + quoted(word);
    line += " >out.log 2>err.log </dev/null";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            file_text(path("out.log")), file_text(path("err.log"))};
  }

 private:
  static std::string unique() { return std::to_string(::getpid()); }
  static std::string quoted(const std::string& word) {
    std::string out = "'";
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
  }
  fs::path folder_;
};

}  // namespace memwall::test
