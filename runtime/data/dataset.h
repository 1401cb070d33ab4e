// The training and the validation part of a run's data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/token_source.h"

namespace memwall {

// Either `text` or `token_files` is given.
struct DatasetSpec {
  std::string text;                                 // a file
  std::vector<std::string> token_files;             // patterns
  std::vector<std::string> validation_token_files;  // patterns; empty: a fraction of the above
  double validation_fraction = 0.1;                 // [0, 1); 0: no validation part
  int64_t seq_length = 0;
  int64_t vocabulary = 0;
  bool verify = true;  // see TokenSourceOptions
  // How a text becomes tokens (tokenizer.h). Of token files it only says what they were made with:
  // there it is opened, and compared with the vocabulary, by who verifies.
  std::string tokenizer{};
  EncodeProgress progress{};  // of a text that has to be encoded
};

// Both parts hold at least one window of seq_length + 1 tokens, except that `validation` is empty
// where validation_fraction is 0 and no validation files are given.
struct Dataset {
  TokenRange training;
  TokenRange validation;
  uint64_t fingerprint = 0;  // of all files; compared across ranks at start-up
};

// The fraction is cut off the end: of n tokens, training has the first floor(n * (1 - fraction)),
// as nanoGPT's prepare.py does.
int64_t training_tokens(int64_t tokens, double validation_fraction);

// InputError: bad files (token_source.h), a bad tokenizer (tokenizer.h), a vocabulary smaller than
// the tokenizer's, or parts too short.
Dataset open_dataset(const DatasetSpec& spec);

}  // namespace memwall
