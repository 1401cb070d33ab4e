#include "runtime/data/tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "runtime/base/error.h"
#include "runtime/data/byte_level_bpe.h"
#include "runtime/data/sentence_piece.h"

namespace memwall {

namespace fs = std::filesystem;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  encode(text, [&](std::span<const int32_t> part, size_t) {
    tokens.insert(tokens.end(), part.begin(), part.end());
  });
  return tokens;
}

void ByteTokenizer::encode(std::string_view text, const TokenSink& sink) const {
  std::array<int32_t, 4096> part;
  for (size_t done = 0; done < text.size();) {
    const std::string_view next = text.substr(done, part.size());
    std::transform(next.begin(), next.end(), part.begin(),
                   [](char c) { return static_cast<unsigned char>(c); });
    done += next.size();
    sink(std::span<const int32_t>(part).first(next.size()), done);
  }
}

std::string ByteTokenizer::decode(std::span<const int32_t> tokens, bool /*begins*/) const {
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

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (is_byte_tokenizer(name)) return std::make_unique<ByteTokenizer>();
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) return std::make_unique<ByteLevelBpe>(name);
  if (fs::exists(name, ignored)) return std::make_unique<SentencePiece>(name);
  throw InputError("no such tokenizer", name,
                   "allowed: \"bytes\", a SentencePiece model, or a folder with vocab.json and "
                   "merges.txt");
}

}  // namespace memwall
