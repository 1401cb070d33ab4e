// GPT-2's pre-tokenizer: cuts a text into the words within which byte pairs are merged.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

namespace memwall {

// Radford et al. 2019, the regular expression of encoder.py, by PCRE2. Letters and numbers are
// Unicode's as this PCRE2 knows them.
class WordPattern {
 public:
  WordPattern();
  ~WordPattern();
  WordPattern(const WordPattern&) = delete;
  WordPattern& operator=(const WordPattern&) = delete;

  // The end of the word that begins at `begin`, a word's beginning before the end of `text`, which
  // is well-formed UTF-8. Every character belongs to exactly one word.
  size_t word_end(std::string_view text, size_t begin) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace memwall
