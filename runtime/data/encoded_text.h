// Texts as tokens, in a temporary file: as many as the disk holds, at no anonymous memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "runtime/data/mapped_file.h"
#include "runtime/data/tokenizer.h"

namespace memwall {

// Told often: bytes of text encoded so far, and of all texts.
using EncodeProgress = std::function<void(int64_t done, int64_t all)>;

struct EncodeOptions {
  bool separates = true;  // the tokenizer's separator, where it has one, between two texts
  std::string folder{};   // where the temporary file lies; "": the system's folder for such files
  EncodeProgress progress{};
};

struct EncodedText {
  MappedFile tokens;        // little-endian; unlinked already: it is gone when this is
  int64_t token_bytes = 2;  // of an id: 2, or 4 where the vocabulary has more than 65536
  int64_t text_bytes = 0;
  int64_t separators = 0;
  uint64_t tokenizer_fingerprint = 0;
};

// InputError with the place of the first byte that is no UTF-8.
void check_utf8(std::span<const std::byte> text, const std::string& path);

// InputError: a text is missing, empty or not UTF-8 (`FILE: byte N: not UTF-8`). Error: the disk is
// full.
EncodedText encode_texts(std::span<const std::string> paths, const Tokenizer& tokenizer,
                         const EncodeOptions& options);

}  // namespace memwall
