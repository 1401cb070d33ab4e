#include "runtime/config/fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/text_format.h>

#include "runtime/base/error.h"
#include "runtime/config/config.h"

namespace memwall {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

// The message that holds the last field of `path`, or null where it was not given.
const Message* holder_of(const Message& config, const FieldPath& path) {
  check(path.known && !path.fields.empty(), "a field path of the schema");
  const Message* message = &config;
  for (size_t i = 0; i + 1 < path.fields.size(); ++i) {
    if (!message->GetReflection()->HasField(*message, path.fields[i])) return nullptr;
    message = &message->GetReflection()->GetMessage(*message, path.fields[i]);
  }
  return message;
}

bool given(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  return field.is_repeated() ? reflection.FieldSize(message, &field) > 0
                             : reflection.HasField(message, &field);
}

void append_fields(const MessageDescriptor& message, const std::string& prefix,
                   std::vector<std::string>& out) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (is_message(field)) {
      append_fields(*field.message_type(), prefix + field.name() + ".", out);
    } else {
      out.push_back(prefix + field.name());
    }
  }
}

}  // namespace

bool is_message(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

FieldPath find_field(std::string_view path, const MessageDescriptor& root) {
  FieldPath out;
  out.scope = &root;
  while (true) {
    const size_t dot = path.find('.');
    const FieldDescriptor* field = out.scope->FindFieldByName(std::string(path.substr(0, dot)));
    if (field == nullptr) return out;
    out.fields.push_back(field);
    if (dot == std::string_view::npos) break;
    if (!is_message(*field)) return out;
    out.scope = field->message_type();
    path.remove_prefix(dot + 1);
  }
  out.known = true;
  return out;
}

std::string allowed_fields(const MessageDescriptor& scope) {
  std::vector<std::string> names;
  for (int i = 0; i < scope.field_count(); ++i) names.push_back(scope.field(i)->name());
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string allowed_values(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64: return "an integer";
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64: return "an integer of at least 0";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: return "a number";
    case FieldDescriptor::CPPTYPE_BOOL: return "true, false";
    case FieldDescriptor::CPPTYPE_STRING: return "text";
    case FieldDescriptor::CPPTYPE_MESSAGE: return allowed_fields(*field.message_type());
    case FieldDescriptor::CPPTYPE_ENUM: break;
  }
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    names.push_back(field.enum_type()->value(i)->name());
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

bool has_field(const Message& config, std::string_view path) {
  const FieldPath found = find_field(path, *config.GetDescriptor());
  const Message* holder = holder_of(config, found);
  return holder != nullptr && given(*holder, *found.leaf());
}

void clear_field(config::Config& config, std::string_view path) {
  if (!has_field(config, path)) return;
  const FieldPath found = find_field(path);
  Message* message = &config;
  for (size_t i = 0; i + 1 < found.fields.size(); ++i) {
    message = message->GetReflection()->MutableMessage(message, found.fields[i]);
  }
  message->GetReflection()->ClearField(message, found.leaf());
}

std::optional<double> number_of(const Message& config, std::string_view path) {
  const FieldPath found = find_field(path, *config.GetDescriptor());
  const Message* holder = holder_of(config, found);
  const FieldDescriptor* field = found.leaf();
  if (holder == nullptr || !given(*holder, *field)) return std::nullopt;
  const Reflection& reflection = *holder->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection.GetInt64(*holder, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection.GetUInt64(*holder, field));
    case FieldDescriptor::CPPTYPE_DOUBLE: return reflection.GetDouble(*holder, field);
    case FieldDescriptor::CPPTYPE_ENUM: return reflection.GetEnumValue(*holder, field);
    default: throw InternalError("not a number", std::string(path));
  }
}

std::optional<std::string> enum_name_of(const Message& config, std::string_view path) {
  const std::optional<double> number = number_of(config, path);
  if (!number) return std::nullopt;
  const auto* value = find_field(path, *config.GetDescriptor())
                          .leaf()
                          ->enum_type()
                          ->FindValueByNumber(static_cast<int>(*number));
  return value == nullptr ? std::to_string(static_cast<int>(*number)) : value->name();
}

std::string value_text(const Message& config, std::string_view path) {
  const FieldPath found = find_field(path, *config.GetDescriptor());
  const Message* holder = holder_of(config, found);
  if (holder == nullptr || !given(*holder, *found.leaf())) return "unset";
  const auto element = [&](int index) {
    std::string text;
    google::protobuf::TextFormat::PrintFieldValueToString(*holder, found.leaf(), index, &text);
    return text;
  };
  if (!found.leaf()->is_repeated()) return element(-1);
  std::vector<std::string> elements;
  for (int i = 0; i < holder->GetReflection()->FieldSize(*holder, found.leaf()); ++i) {
    elements.push_back(element(i));
  }
  return fmt::format("[{}]", fmt::join(elements, ", "));
}

std::vector<std::string> all_fields(const MessageDescriptor& root) {
  std::vector<std::string> out;
  append_fields(root, "", out);
  return out;
}

std::vector<std::string> all_fields() {
  return all_fields(*config::Config::descriptor());
}

}  // namespace memwall
