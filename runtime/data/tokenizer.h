// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace memwall {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocabulary() const = 0;  // ids are in [0, vocabulary)
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  // A model's vocabulary may be larger: an id that is no token becomes U+FFFD.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
};

// Every byte is a token. `decode` may cut a character that is several bytes long.
class ByteTokenizer : public Tokenizer {
 public:
  static constexpr int64_t kVocabulary = 256;
  int64_t vocabulary() const override { return kVocabulary; }
  std::vector<int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
};

// `data.tokenizer`: "bytes", which is also the meaning of "". Anything else is an InputError.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind);

}  // namespace memwall
