// A read-only sequence of token ids over memory-mapped files.
//
// Formats: UTF-8 text, a token a byte or by a tokenizer; nanoGPT's .bin, raw little-endian uint16;
// llm.c's .bin (token_files.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/encoded_text.h"
#include "runtime/data/mapped_file.h"
#include "runtime/data/tokenizer.h"

namespace memwall {

struct TokenSourceOptions {
  int64_t vocabulary = 0;  // of the model: larger ids are refused
  // Reads every file once, for UTF-8 and for ids. Where another rank has done so for the same
  // files, this one may leave it.
  bool verify = true;
};

class TokenSource {
 public:
  // InputError: missing, empty, not UTF-8 (`FILE: byte N: not UTF-8`), or an id out of range.
  static TokenSource from_text(const std::string& path, const TokenSourceOptions& options);
  // InputError: the text has no tokens.
  static TokenSource from_encoded(EncodedText text);
  // The files that match each pattern (glob(7)), sorted by bytes within it, one after the other.
  // InputError: no match, empty or damaged files, or an id out of range (file, token, byte and id).
  static TokenSource from_token_files(std::span<const std::string> patterns,
                                      const TokenSourceOptions& options);

  int64_t size() const { return size_; }  // tokens
  // Tokens [first, first + out.size()), which must exist.
  void read(int64_t first, std::span<int32_t> out) const;

  // Equal for equal files, and tokenizers where texts are encoded; sizes and evenly spaced samples
  // go in, not every byte.
  uint64_t fingerprint() const;

 private:
  struct File {
    MappedFile map;
    int64_t header_bytes = 0;
    int64_t token_bytes = 1;  // 1, 2 or 4
    int64_t start = 0;        // position of its first token in the sequence
    int64_t tokens = 0;
  };

  static File open_token_file(const std::string& path);
  template <class T>
  static void check_ids_of(const File& file, int64_t vocabulary);
  static void check_ids(const File& file, int64_t vocabulary);
  void append(File file);

  std::vector<File> files_;  // never empty, by ascending start
  int64_t size_ = 0;
  uint64_t tokenizer_fingerprint_ = 0;  // of texts that were encoded
};

// Tokens [first, first + size) of a source.
struct TokenRange {
  std::shared_ptr<const TokenSource> source;
  int64_t first = 0;
  int64_t size = 0;

  void read(int64_t position, std::span<int32_t> out) const;  // position within the range
};

}  // namespace memwall
