// Fields of a message of a schema (a run's configuration, a cluster) by dotted path. Private to
// this room.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/memwall.pb.h"

namespace memwall {

using FieldDescriptor = google::protobuf::FieldDescriptor;
using MessageDescriptor = google::protobuf::Descriptor;

// A path followed as far as it names fields of the schema.
struct FieldPath {
  std::vector<const FieldDescriptor*> fields;
  bool known = false;  // every component of the path was found
  // The message that the path ends in: it has, or lacks, the last component.
  const MessageDescriptor* scope = config::Config::descriptor();

  const FieldDescriptor* leaf() const { return known && !fields.empty() ? fields.back() : nullptr; }
};
FieldPath find_field(std::string_view path,
                     const MessageDescriptor& root = *config::Config::descriptor());

bool is_message(const FieldDescriptor& field);

// What may stand in the place of `field`, "ADAMW, SGD", or the names of the fields of `scope`.
std::string allowed_values(const FieldDescriptor& field);
std::string allowed_fields(const MessageDescriptor& scope);

// A singular field is given where it is present, a repeated one where it is not empty.
bool has_field(const google::protobuf::Message& config, std::string_view path);
void clear_field(config::Config& config, std::string_view path);

// The value of a numeric or enum field, if given.
std::optional<double> number_of(const google::protobuf::Message& config, std::string_view path);
std::optional<std::string> enum_name_of(const google::protobuf::Message& config,
                                        std::string_view path);
// The value as text format writes it, "unset" where it is not given; repeated: "[a, b]".
std::string value_text(const google::protobuf::Message& config, std::string_view path);

// The dotted path of every field of `root` that is not a message, in the schema's order.
std::vector<std::string> all_fields(const MessageDescriptor& root);

}  // namespace memwall
