// Token files as llm.c writes them: 256 little-endian int32 of header (magic, version, number of
// tokens, zeros), then the ids.
// https://github.com/karpathy/llm.c/blob/master/dev/data/data_common.py
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/token_source.h"

namespace memwall {

struct TokenFormat {
  int32_t magic = 0, version = 0;
  int64_t token_bytes = 0;
};
constexpr int64_t kTokenHeaderBytes = 1024;
constexpr TokenFormat kNarrowTokens{20240520, 1, 2};  // uint16: llm.c's for GPT-2
constexpr TokenFormat kWideTokens{20240801, 7, 4};    // uint32: llm.c's for Llama 3
constexpr int64_t kMostTokensPerFile = INT32_MAX;     // what the header can say

// A part of the data and how its files begin: train_00000.bin, train_00001.bin, ...
struct TokenPart {
  std::string prefix;
  TokenRange range;  // may be empty: no file
};

struct TokenFilesSpec {
  std::string folder;  // made where it does not exist
  bool narrow = true;  // ids of 16 bits, else of 32
  int64_t tokens_per_file = 0;
  bool overwrites = false;  // earlier files of the parts go; else they are an error
};

// InputError where files of one of the parts are there already and nothing may be overwritten.
void check_no_token_files(const std::string& folder, const std::vector<std::string>& prefixes);

// Writes all files beside their places before the first takes its place; what fails on the way
// leaves the folder as it was. Paths, in order. InputError as above; Error: the disk is full.
std::vector<std::string> write_token_files(const std::vector<TokenPart>& parts,
                                           const TokenFilesSpec& spec);

}  // namespace memwall
