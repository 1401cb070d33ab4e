// Text to token ids and back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace memwall {

// Takes the next tokens of a text; `done` of its bytes are encoded with them.
using TokenSink = std::function<void(std::span<const int32_t> tokens, size_t done)>;

// One thread at a time may use a tokenizer: it keeps what it has worked out.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocabulary() const = 0;  // ids are in [0, vocabulary)

  // The tokens of the whole text, in order and in pieces; what is held meanwhile does not grow with
  // the text. Words that look like special tokens are words. Ill-formed UTF-8 becomes U+FFFD first
  // (replace_invalid_utf8), but for the byte tokenizer, which takes every byte as it is.
  virtual void encode(std::string_view text, const TokenSink& sink) const = 0;
  std::vector<int32_t> encode(std::string_view text) const;

  // `begins`: whether a text begins with these tokens, or other tokens came before. The result may
  // end inside a character. A model's vocabulary may be larger: an id that is no token becomes
  // U+FFFD.
  virtual std::string decode(std::span<const int32_t> tokens, bool begins) const = 0;

  // What stands between documents; none where the tokenizer has no such token.
  virtual std::optional<int32_t> separator() const = 0;
  // Equal where the same text gives the same tokens.
  virtual uint64_t fingerprint() const = 0;
};

// Every byte is a token.
class ByteTokenizer : public Tokenizer {
 public:
  static constexpr int64_t kVocabulary = 256;
  using Tokenizer::encode;
  int64_t vocabulary() const override { return kVocabulary; }
  void encode(std::string_view text, const TokenSink& sink) const override;
  std::string decode(std::span<const int32_t> tokens, bool begins) const override;
  std::optional<int32_t> separator() const override { return std::nullopt; }
  uint64_t fingerprint() const override { return 0; }
};

inline bool is_byte_tokenizer(std::string_view name) {
  return name.empty() || name == "bytes";
}

// `data.tokenizer`: "bytes", which is also the meaning of ""; a SentencePiece model; or a folder
// with vocab.json and merges.txt. InputError: nothing is there, or what is there is damaged.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);

}  // namespace memwall
