// A message of a schema read from a text-format file, with the place of every field. Private to
// this room.
#pragma once

#include <google/protobuf/message.h>

#include <map>
#include <string>
#include <string_view>

namespace memwall {

// Where fields and messages were given: "FILE:LINE" or "--set FIELD=VALUE", by dotted path.
using Places = std::map<std::string, std::string, std::less<>>;

// What an error about `field` begins with, FIELD included. A field that was not given is placed at
// the message it belongs to.
std::string place_of(const std::string& file, const Places& places, std::string_view field);

// For the message about a file that cannot be read.
struct FileKind {
  std::string_view what;     // "configuration"
  std::string_view example;  // "configs/*.textproto"
};

// Reads `path` into `out`, an empty message. InputError where it is no such message.
Places read_text_file(const std::string& path, const FileKind& kind,
                      google::protobuf::Message& out);

}  // namespace memwall
