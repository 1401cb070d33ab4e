#include "runtime/config/overrides.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <set>

#include "runtime/config/fields.h"
#include "runtime/config/problem.h"

namespace memwall {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

// False where `text` is no value of the field.
bool set_value(Message& message, const FieldDescriptor& field, const std::string& text) {
  const Reflection& reflection = *message.GetReflection();
  const auto set = [&](const auto& value, auto setter) {
    if (!value) return false;
    (reflection.*setter)(&message, &field, *value);
    return true;
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return set(parse_number<int64_t>(text), &Reflection::SetInt64);
    case FieldDescriptor::CPPTYPE_UINT64:
      return set(parse_number<uint64_t>(text), &Reflection::SetUInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return set(parse_number<double>(text), &Reflection::SetDouble);
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return false;
      reflection.SetBool(&message, &field, text == "true");
      return true;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field.enum_type()->FindValueByName(text);
      if (value == nullptr) return false;
      reflection.SetEnum(&message, &field, value);
      return true;
    }
    case FieldDescriptor::CPPTYPE_STRING:
      if (field.is_repeated()) {
        reflection.AddString(&message, &field, text);
      } else {
        reflection.SetString(&message, &field, text);
      }
      return true;
    default: throw InternalError("--set knows no field of this type", field.full_name());
  }
}

std::string reason_for(const FieldDescriptor& field, const std::string& value) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) return "no such value";
  return fmt::format("\"{}\" is not {}", value, allowed_values(field));
}

Message& mutable_holder(config::Config& config, const FieldPath& path) {
  Message* message = &config;
  for (size_t i = 0; i + 1 < path.fields.size(); ++i) {
    message = message->GetReflection()->MutableMessage(message, path.fields[i]);
  }
  return *message;
}

class Overrider {
 public:
  explicit Overrider(GivenConfig& given) : given_(given) {}

  void apply(const std::string& argument) {
    const std::string place = "--set " + argument;
    const size_t equals = argument.find('=');
    if (equals == std::string::npos) {
      throw_problems({{place, "no value", "FIELD=VALUE"}});
    }
    const std::string field = argument.substr(0, equals), value = argument.substr(equals + 1);
    const FieldPath path = find_field(field);
    if (!path.known) throw_problems({{place, "no such field", allowed_fields(*path.scope)}});
    const FieldDescriptor& leaf = *path.leaf();
    if (is_message(leaf)) {
      throw_problems(
          {{place, "not a single value: set " + field + ".FIELD", allowed_values(leaf)}});
    }
    drop_from_file(field, leaf.is_repeated());
    if (value.empty()) {  // as if the file had not given it
      clear_field(given_.config, field);
      given_.places.erase(field);
      return;
    }
    if (!set_value(mutable_holder(given_.config, path), leaf, value)) {
      throw_problems({{place, reason_for(leaf, value), allowed_values(leaf)}});
    }
    given_.places.insert_or_assign(field, place);
    set_here_.insert(field);
  }

 private:
  // What the file said that this override takes the place of. What another override said stays:
  // two that exclude each other are for validation to refuse.
  void drop_from_file(const std::string& field, bool is_repeated) {
    if (is_repeated) drop(field);
    if (field == "data.text") {
      drop("data.tokens");
      drop("data.validation_tokens");
    }
    if (field == "data.tokens" || field == "data.validation_tokens") drop("data.text");
  }

  void drop(const std::string& field) {
    if (set_here_.contains(field)) return;
    clear_field(given_.config, field);
    given_.places.erase(field);
  }

  GivenConfig& given_;
  std::set<std::string> set_here_;
};

}  // namespace

void apply_overrides(GivenConfig& given, const std::vector<std::string>& overrides) {
  Overrider overrider(given);
  for (const std::string& argument : overrides) overrider.apply(argument);
}

}  // namespace memwall
