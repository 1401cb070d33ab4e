// The files of a GPT-2 tokenizer: vocab.json and merges.txt.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace memwall {

struct BpeMerge {
  int32_t rank = 0;    // its place in merges.txt: the least goes first
  int32_t result = 0;  // the id of both parts together
};

struct BpeFiles {
  // By id. An id that vocab.json leaves out is U+FFFD. A token that is not spelled with the 256
  // byte symbols stands for itself.
  std::vector<std::string> bytes;
  std::array<int32_t, 256> byte_ids{};
  std::unordered_map<uint64_t, BpeMerge> merges;  // by bpe_pair
  std::optional<int32_t> end_of_text;             // <|endoftext|>
  uint64_t fingerprint = 0;                       // of both files
};

constexpr uint64_t bpe_pair(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// InputError: a file is missing, vocab.json is no JSON object of tokens and ids, an id stands
// twice, a byte has no token, or a line of merges.txt contradicts vocab.json (file and line).
BpeFiles read_bpe_files(const std::string& folder);

}  // namespace memwall
