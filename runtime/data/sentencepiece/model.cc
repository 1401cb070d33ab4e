#include "runtime/data/sentencepiece/model.h"

#include <sentencepiece_processor.h>

#include <cstddef>

namespace memwall {
namespace {

// A message that ends early, between two of its fields, is a message, too. Models are written as
// pieces, trainer_spec (2), normalizer_spec (3), ..., so the third field shows that nothing before
// it is missing. `serialized` is a well-formed message.
bool has_normalizer(std::string_view serialized) {
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0; at < serialized.size() && shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(serialized[at++]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < serialized.size()) {
    const uint64_t tag = varint();
    constexpr uint64_t kBytes = 2;  // the wire type of messages and texts
    if ((tag & 7) != kBytes) return false;
    const uint64_t length = varint();
    if (tag >> 3 == 3) return true;
    if (length > serialized.size() - at) return false;
    at += length;
  }
  return false;
}

}  // namespace

struct SentencePieceModel::Library {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceModel::SentencePieceModel(std::string_view serialized, std::string& reason)
    : library_(std::make_unique<Library>()) {
  const auto status = library_->processor.LoadFromSerializedProto(serialized);
  reason = !status.ok()                  ? status.ToString()
           : !has_normalizer(serialized) ? "it ends before its normalizer_spec"
                                         : "";
}

SentencePieceModel::~SentencePieceModel() = default;

int32_t SentencePieceModel::size() const {
  return library_->processor.GetPieceSize();
}

int32_t SentencePieceModel::end_of_sentence() const {
  return library_->processor.eos_id();
}

SentencePieceModel::Kind SentencePieceModel::kind(int32_t id) const {
  const auto& processor = library_->processor;
  if (processor.IsByte(id)) return Kind::kByte;
  if (processor.IsControl(id)) return Kind::kControl;
  return processor.IsUnknown(id) ? Kind::kUnknown : Kind::kText;
}

const std::string& SentencePieceModel::piece(int32_t id) const {
  return library_->processor.IdToPiece(id);
}

bool SentencePieceModel::encode(std::string_view text, std::vector<Piece>& pieces,
                                std::string& reason) const {
  sentencepiece::ImmutableSentencePieceText encoded;
  const auto status = library_->processor.Encode(text, encoded.mutable_proto());
  if (!status.ok()) {
    reason = status.ToString();
    return false;
  }
  const size_t count = encoded.pieces_size();
  pieces.reserve(pieces.size() + count);
  for (size_t i = 0; i < count; ++i) {
    const auto piece = encoded.pieces(static_cast<int>(i));
    pieces.push_back({static_cast<int32_t>(piece.id()), piece.begin(), piece.end()});
  }
  return true;
}

std::string SentencePieceModel::decode(const std::vector<int32_t>& ids) const {
  return library_->processor.DecodeIds(ids);
}

}  // namespace memwall
