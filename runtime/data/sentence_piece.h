// SentencePiece models (Kudo and Richardson 2018), unigram or BPE, by the library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/sentencepiece/model.h"
#include "runtime/data/tokenizer.h"

namespace memwall {

// A text is one sentence to the library, as in SentencePieceProcessor.Encode(text): what a model
// makes of spaces and new lines is the model's business. A denormaliser, which models hardly ever
// have, is applied where a text begins only.
class SentencePiece : public Tokenizer {
 public:
  // InputError: missing, or no model. `window_bytes`: how much of a text the library sees at once;
  // the tokens do not depend on it where no token reaches over the beginning of white space.
  explicit SentencePiece(const std::string& path, size_t window_bytes = size_t{1} << 16);

  using Tokenizer::encode;
  int64_t vocabulary() const override { return model_->size(); }
  void encode(std::string_view text, const TokenSink& sink) const override;
  std::string decode(std::span<const int32_t> tokens, bool begins) const override;
  std::optional<int32_t> separator() const override;
  uint64_t fingerprint() const override { return fingerprint_; }

 private:
  // Tokens of [begin, end) of a text; their places count from the text's beginning.
  struct Window {
    size_t begin = 0, end = 0;
    std::vector<int32_t> ids;
    std::vector<size_t> starts;
  };
  Window encode_window(std::string_view text, size_t begin, size_t end) const;

  std::string path_;
  std::unique_ptr<SentencePieceModel> model_;
  size_t window_bytes_;
  uint64_t fingerprint_ = 0;
  std::vector<std::string> texts_;  // of each token where it does not begin a text
};

}  // namespace memwall
