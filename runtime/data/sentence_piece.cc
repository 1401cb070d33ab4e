#include "runtime/data/sentence_piece.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "runtime/data/mapped_file.h"
#include "runtime/data/utf8.h"

namespace memwall {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581, a space as models spell it
constexpr size_t kOverlapBytes = 64;

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// Where white space begins after something else. Words end here, so that what stands on one side
// has no say in the tokens of the other.
bool is_seam(std::string_view text, size_t at) {
  return at > 0 && at < text.size() && is_space(text[at]) && !is_space(text[at - 1]);
}

size_t seam_before(std::string_view text, size_t at) {
  while (at > 0 && !is_seam(text, at)) --at;
  return at;
}

size_t character_at_or_after(std::string_view text, size_t at) {
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) ++at;
  return std::min(at, text.size());
}

// "<0x0A>"
char byte_of(const std::string& piece) {
  return static_cast<char>(std::strtoul(piece.c_str() + 3, nullptr, 16));
}

std::string with_spaces(std::string_view piece) {
  std::string out;
  for (size_t at = piece.find(kSpaceSymbol); at != piece.npos; at = piece.find(kSpaceSymbol)) {
    out += piece.substr(0, at);
    out += ' ';
    piece.remove_prefix(at + kSpaceSymbol.size());
  }
  return out += piece;
}

std::string load_model(const std::string& path, uint64_t& fingerprint) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  fingerprint = hash_bytes(bytes.data(), bytes.size());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

SentencePiece::SentencePiece(const std::string& path, size_t window_bytes)
    : path_(path), window_bytes_(window_bytes) {
  std::string reason;
  model_ = std::make_unique<SentencePieceModel>(load_model(path, fingerprint_), reason);
  if (!reason.empty()) {
    throw InputError(
        "no SentencePiece model, or a damaged one: " + reason, path,
        "name a .model file as SentencePiece wrote it, or a folder with vocab.json and "
        "merges.txt");
  }
  for (int32_t id = 0; id < model_->size(); ++id) {
    switch (model_->kind(id)) {
      case SentencePieceModel::Kind::kByte:
        texts_.emplace_back(1, byte_of(model_->piece(id)));
        break;
      case SentencePieceModel::Kind::kControl: texts_.emplace_back(); break;
      case SentencePieceModel::Kind::kUnknown: texts_.push_back(model_->decode({id})); break;
      case SentencePieceModel::Kind::kText: texts_.push_back(with_spaces(model_->piece(id))); break;
    }
  }
}

SentencePiece::Window SentencePiece::encode_window(std::string_view text, size_t begin,
                                                   size_t end) const {
  Window window{.begin = begin,
                .end = character_at_or_after(text, std::min(end, text.size())),
                .ids = {},
                .starts = {}};
  std::vector<SentencePieceModel::Piece> pieces;
  std::string reason;
  if (!model_->encode(text.substr(begin, window.end - begin), pieces, reason)) {
    throw Error("SentencePiece cannot encode the text: " + reason, path_, "use another model");
  }
  for (const SentencePieceModel::Piece& piece : pieces) {
    window.ids.push_back(piece.id);
    window.starts.push_back(begin + piece.begin);
  }
  return window;
}

// Windows overlap by a few words, for a window's first word is encoded as the first of a text. One
// ends, and the next takes over, at a seam where both begin a token.
void SentencePiece::encode(std::string_view text, const TokenSink& sink) const {
  if (find_invalid_utf8(text)) return encode(replace_invalid_utf8(text), sink);
  const auto index_of = [](const Window& window, size_t start) {
    const auto found = std::lower_bound(window.starts.begin(), window.starts.end(), start);
    return static_cast<size_t>(found - window.starts.begin());
  };
  const auto last_seam = [&](const Window& window, size_t after) {
    for (size_t i = window.starts.size(); i > 0 && window.starts[i - 1] > after; --i) {
      if (is_seam(text, window.starts[i - 1])) return window.starts[i - 1];
    }
    return after;
  };
  size_t done = 0, length = window_bytes_;
  Window window = encode_window(text, 0, length);
  while (window.end < text.size()) {
    const size_t seam = last_seam(window, done);
    if (seam > done) {
      const size_t begin = seam_before(text, seam - std::min(seam, kOverlapBytes));
      Window next = encode_window(text, begin, seam + window_bytes_);
      const size_t first = index_of(next, seam);
      if (first < next.starts.size() && next.starts[first] == seam) {
        const size_t from = done == 0 ? 0 : index_of(window, done);
        sink(std::span(window.ids).subspan(from, index_of(window, seam) - from), seam);
        done = seam, length = window_bytes_;
        window = std::move(next);
        continue;
      }
    }
    length *= 2;
    window = encode_window(text, window.begin, done + length);
  }
  sink(std::span(window.ids).subspan(done == 0 ? 0 : index_of(window, done)), text.size());
}

std::string SentencePiece::decode(std::span<const int32_t> tokens, bool begins) const {
  const auto is_token = [&](int32_t id) { return id >= 0 && id < model_->size(); };
  std::string text;
  if (begins) {
    const auto known = std::find_if_not(tokens.begin(), tokens.end(), is_token);
    text = model_->decode({tokens.begin(), known});
    tokens = tokens.subspan(static_cast<size_t>(known - tokens.begin()));
  }
  for (const int32_t id : tokens) {
    text += is_token(id) ? std::string_view(texts_[static_cast<size_t>(id)]) : kReplacement;
  }
  return text;
}

std::optional<int32_t> SentencePiece::separator() const {
  const int32_t id = model_->end_of_sentence();
  return id < 0 ? std::nullopt : std::optional(id);
}

}  // namespace memwall
