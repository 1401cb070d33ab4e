// GPT-2's tokenizer: byte pairs merged within words (Radford et al. 2019; Sennrich et al. 2016).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/base/hash.h"
#include "runtime/data/bpe_files.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/word_pattern.h"

namespace memwall {

class ByteLevelBpe : public Tokenizer {
 public:
  // `folder` holds vocab.json and merges.txt; for its errors see bpe_files.h.
  explicit ByteLevelBpe(const std::string& folder);

  using Tokenizer::encode;
  int64_t vocabulary() const override { return static_cast<int64_t>(files_.bytes.size()); }
  void encode(std::string_view text, const TokenSink& sink) const override;
  std::string decode(std::span<const int32_t> tokens, bool begins) const override;
  std::optional<int32_t> separator() const override { return files_.end_of_text; }
  uint64_t fingerprint() const override { return files_.fingerprint; }

 private:
  // A token of the word in the making; neighbours by index, kNone at the ends. A token that was
  // merged into its left neighbour has id kNone.
  struct Symbol {
    int32_t id, previous, next;
  };
  // A pair that may be merged, unless one of its two has changed since.
  struct Candidate {
    int32_t rank, left;  // `left` is an index of symbols_
    int32_t left_id, right_id;
    // The top of the heap is the least rank, of these the leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return hash_text(text); }
  };
  static constexpr int32_t kNone = -1;

  void append_word(std::string_view word, std::vector<int32_t>& out) const;
  void merge(std::string_view word, std::vector<int32_t>& out) const;
  void merge_least_rank() const;
  void propose(int32_t left) const;

  BpeFiles files_;
  WordPattern pattern_;
  mutable std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> cache_;
  mutable std::vector<Symbol> symbols_;
  mutable std::vector<Candidate> heap_;
  mutable std::vector<int32_t> changed_;
};

}  // namespace memwall
