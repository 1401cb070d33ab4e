#include "runtime/config/text_file.h"

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "runtime/config/fields.h"
#include "runtime/config/problem.h"
#include "runtime/config/scan.h"

namespace memwall {
namespace {

namespace io = google::protobuf::io;

std::string read_text(const std::string& path, const FileKind& kind) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream || std::filesystem::is_directory(path)) {
    throw InputError(fmt::format("cannot read the {}", kind.what), path,
                     fmt::format("name a file, as {}", kind.example));
  }
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

struct ParseError {
  int line = 0, column = 0;  // from 0
  std::string message;
};

// Keeps the first error; what follows one in a text-format file seldom stands for itself.
class FirstError : public io::ErrorCollector {
 public:
  void AddError(int line, io::ColumnNumber column, const std::string& message) override {
    if (!error_) error_ = ParseError{line, column, message};
  }
  const std::optional<ParseError>& error() const { return error_; }

 private:
  std::optional<ParseError> error_;
};

// protobuf reports these when it stands at the next token already.
bool is_about_the_token_before(const std::string& message) {
  constexpr std::array<std::string_view, 3> kLate = {"has no field named",
                                                     "Unknown enumeration value", "Non-repeated"};
  return std::any_of(kLate.begin(), kLate.end(), [&](std::string_view part) {
    return message.find(part) != std::string::npos;
  });
}

// The last token that starts at the error or before it, or null.
const FieldToken* token_at_fault(const std::vector<FieldToken>& tokens, const ParseError& error) {
  const int column = is_about_the_token_before(error.message) ? error.column - 1 : error.column;
  const auto after = std::find_if(tokens.begin(), tokens.end(), [&](const FieldToken& token) {
    return token.line > error.line || (token.line == error.line && token.column > column);
  });
  return after == tokens.begin() ? nullptr : &*std::prev(after);
}

constexpr std::string_view kNoField = "Expected identifier";

std::string as_reason(std::string message) {
  if (message.starts_with(kNoField)) message.replace(0, kNoField.size(), "Expected a field");
  if (message.ends_with("got: ")) message.replace(message.size() - 2, 2, " the end of the file");
  if (message.ends_with('.')) message.pop_back();
  if (!message.empty()) {
    message[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(message[0])));
  }
  return message;
}

// Where the message open at `token` may have a field, or end, something else stands.
Problem no_field(const ParseError& error, const std::string& file, const FieldToken& token,
                 const MessageDescriptor& schema) {
  const FieldPath path = find_field(token.scope, schema);
  return {
      fmt::format("{}:{}{}{}", file, token.line + 1, token.scope.empty() ? "" : ": ", token.scope),
      as_reason(error.message),
      path.known ? allowed_values(*path.leaf()) : allowed_fields(*path.scope)};
}

Problem explain(const ParseError& error, const std::string& file, const std::string& text,
                const MessageDescriptor& schema) {
  const std::vector<FieldToken> tokens = scan_fields(text);
  const FieldToken* token = token_at_fault(tokens, error);
  if (token == nullptr || token->field.empty()) {
    return {fmt::format("{}:{}", file, error.line + 1), as_reason(error.message),
            allowed_fields(schema)};
  }
  if (error.message.starts_with(kNoField)) return no_field(error, file, *token, schema);
  const FieldPath path = find_field(token->field, schema);
  const std::string at = fmt::format("{}:{}: {}", file, token->line + 1, token->field);
  if (!path.known) return {at, "no such field", allowed_fields(*path.scope)};
  if (error.message.starts_with("Non-repeated")) return {at, "given more than once", ""};
  return {at, as_reason(error.message), allowed_values(*path.leaf())};
}

// proto3 keeps enum numbers that have no name.
void refuse_unnamed_values(const google::protobuf::Message& message, const std::string& file,
                           const Places& places) {
  std::vector<Problem> problems;
  for (const std::string& field : all_fields(*message.GetDescriptor())) {
    const FieldDescriptor& descriptor = *find_field(field, *message.GetDescriptor()).leaf();
    if (descriptor.cpp_type() != FieldDescriptor::CPPTYPE_ENUM) continue;
    const std::optional<double> number = number_of(message, field);
    if (!number) continue;
    if (descriptor.enum_type()->FindValueByNumber(static_cast<int>(*number)) != nullptr) continue;
    problems.push_back({place_of(file, places, field), fmt::format("no such value: {}", *number),
                        allowed_values(descriptor)});
  }
  throw_problems(problems);
}

}  // namespace

std::string place_of(const std::string& file, const Places& places, std::string_view field) {
  for (std::string_view at = field;; at = at.substr(0, at.rfind('.'))) {
    const auto found = places.find(at);
    if (found != places.end()) {
      // An override's place names its field already.
      const bool is_override = at == field && found->second.starts_with("--set ");
      return is_override ? found->second : fmt::format("{}: {}", found->second, field);
    }
    if (at.find('.') == std::string_view::npos) return fmt::format("{}:1: {}", file, field);
  }
}

void throw_problems(const std::vector<Problem>& problems) {
  constexpr size_t kMostLines = 5;
  if (problems.empty()) return;
  std::string text;
  for (size_t i = 0; i < std::min(problems.size(), kMostLines); ++i) {
    const Problem& problem = problems[i];
    text += fmt::format("{}{}: {}", i > 0 ? "\n" : "", problem.at, problem.reason);
    if (!problem.allowed.empty()) text += fmt::format(" (allowed: {})", problem.allowed);
  }
  throw InputError(text);
}

Places read_text_file(const std::string& path, const FileKind& kind,
                      google::protobuf::Message& out) {
  const std::string text = read_text(path, kind);
  FirstError errors;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  const bool parsed = parser.ParseFromString(text, &out);
  if (errors.error()) {
    throw_problems({explain(*errors.error(), path, text, *out.GetDescriptor())});
  }
  check(parsed, "a parser that refuses says why", path);

  Places places;
  for (const FieldToken& token : scan_fields(text)) {
    if (!token.names_field) continue;
    places.try_emplace(token.field, fmt::format("{}:{}", path, token.line + 1));
  }
  refuse_unnamed_values(out, path, places);
  return places;
}

}  // namespace memwall
