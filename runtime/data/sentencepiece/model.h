// SentencePiece's library behind an interface of standard types, in a shared library of its own:
// the rest of Memwall never sees the library's protobuf (see the top CMakeLists.txt).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace memwall {

class SentencePieceModel {
 public:
  // A token and the bytes [begin, end) of the text that it stands for. Of a character that is
  // spelled as several byte tokens, all but the last stand for nothing.
  struct Piece {
    int32_t id = 0;
    uint32_t begin = 0, end = 0;
  };
  enum class Kind { kText, kByte, kControl, kUnknown };

  // `serialized` is the contents of a .model file. Where it is none, `reason` says why: then
  // nothing but the destructor may be called.
  SentencePieceModel(std::string_view serialized, std::string& reason);
  ~SentencePieceModel();
  SentencePieceModel(const SentencePieceModel&) = delete;
  SentencePieceModel& operator=(const SentencePieceModel&) = delete;

  int32_t size() const;             // ids are in [0, size)
  int32_t end_of_sentence() const;  // -1: none
  Kind kind(int32_t id) const;
  const std::string& piece(int32_t id) const;  // as the model spells it: U+2581 is a space

  // Appends to `pieces`; false where the library fails, and `reason` says why.
  bool encode(std::string_view text, std::vector<Piece>& pieces, std::string& reason) const;
  // As the library decodes a whole sequence; ids in [0, size).
  std::string decode(const std::vector<int32_t>& ids) const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace memwall
