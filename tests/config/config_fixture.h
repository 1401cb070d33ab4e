// A small valid configuration as a file, and what reading and checking a changed one says.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "tests/data/temporary_folder.h"

namespace memwall {

// The message of the InputError that `action` throws, the folder of `file` taken off; "" for none.
template <class Action>
std::string input_error_of(const std::string& file, const Action& action) {
  try {
    action();
  } catch (const InputError& error) {
    std::string message = error.what();
    const std::string folder = file.substr(0, file.rfind('/') + 1);
    for (size_t at; (at = message.find(folder)) != std::string::npos;) {
      message.erase(at, folder.size());
    }
    return message;
  }
  return "";
}

class ConfigTest : public testing::Test {
 protected:
  // Each field stands on a line of its own: the tests name the lines.
  static constexpr const char* kTiny =
      "model {\n"                // 1
      "  num_layers: 2\n"        // 2
      "  hidden_size: 64\n"      // 3
      "  num_heads: 4\n"         // 4
      "  context_length: 128\n"  // 5
      "  vocab_size: 256\n"      // 6
      "}\n"                      // 7
      "data {\n"                 // 8
      "  text: \"tiny.txt\"\n"   // 9
      "  micro_batch_size: 2\n"  // 10
      "}\n"                      // 11
      "run { steps: 10 }\n";     // 12

  // kTiny with the first `from` replaced.
  static std::string tiny(const std::string& from = "", const std::string& to = "") {
    std::string text = kTiny;
    const size_t at = text.find(from);
    check(at != std::string::npos, "the text to replace", from);
    return text.replace(at, from.size(), to);
  }

  GivenConfig load(const std::string& text, const std::vector<std::string>& overrides = {}) {
    std::ofstream(file_, std::ios::binary) << text;
    return load_config(file_, overrides);
  }

  // The error of reading and then checking, "" for none, the file's folder taken off.
  std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {},
                       int64_t ranks = 2, Purpose purpose = Purpose::kTrain) {
    return message_of([&] { validate(load(text, overrides), ranks, purpose); });
  }
  std::string error_of_set(const std::vector<std::string>& overrides, int64_t ranks = 2,
                           Purpose purpose = Purpose::kTrain) {
    return error_of(kTiny, overrides, ranks, purpose);
  }

  template <class Action>
  std::string message_of(Action action) {
    return input_error_of(file_, action);
  }

 private:
  TemporaryFolder folder_;
  std::string file_ = folder_.at("tiny.textproto");
};

}  // namespace memwall
