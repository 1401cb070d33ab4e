#include "runtime/data/tokenizer.h"

#include "runtime/base/error.h"

namespace memwall {

std::vector<int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  tokens.reserve(text.size());
  for (char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  text.reserve(tokens.size());
  for (int32_t token : tokens) {
    if (token >= 0 && token < kVocabulary) {
      text += static_cast<char>(token);
    } else {
      text += "\xEF\xBF\xBD";
    }
  }
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind) {
  if (kind.empty() || kind == "bytes") return std::make_unique<ByteTokenizer>();
  throw InputError("SentencePiece and BPE tokenizers come with a later version", "data.tokenizer",
                   "allowed: \"bytes\"; or give token files as data.tokens");
}

}  // namespace memwall
