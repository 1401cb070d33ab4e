// The tokens of a text-format file, each with the field it belongs to. protobuf's parser says where
// it stopped but not in which field; this does. Private to this room.
#pragma once

#include <string>
#include <vector>

namespace memwall {

struct FieldToken {
  int line = 0, column = 0;  // from 0, as protobuf counts
  std::string field;         // dotted path as written, whether the schema knows it or not
  std::string scope;         // the message open after the token, "" outside all
  bool names_field = false;  // the token is the field's name
};

// Tokens of `text` in order. Reads on over anything the parser would refuse.
std::vector<FieldToken> scan_fields(const std::string& text);

}  // namespace memwall
