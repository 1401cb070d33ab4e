#include "runtime/config/scan.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

namespace memwall {
namespace {

using google::protobuf::io::Tokenizer;

struct IgnoreErrors : google::protobuf::io::ErrorCollector {
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string&) override {}
};

// The path that names lead to: open messages, then the field being read.
class Path {
 public:
  void name(const std::string& field) { field_ = scope() + field; }
  void open() { scopes_.push_back(field_ + "."); }
  void close() {
    if (scopes_.empty()) return;
    field_ = scopes_.back().substr(0, scopes_.back().size() - 1);
    scopes_.pop_back();
  }
  const std::string& field() const { return field_; }
  std::string message() const { return scope().substr(0, scope().rfind('.')); }

 private:
  std::string scope() const { return scopes_.empty() ? "" : scopes_.back(); }
  std::vector<std::string> scopes_;
  std::string field_;
};

}  // namespace

std::vector<FieldToken> scan_fields(const std::string& text) {
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  IgnoreErrors errors;
  Tokenizer tokenizer(&stream, &errors);
  tokenizer.set_comment_style(Tokenizer::SH_COMMENT_STYLE);

  std::vector<FieldToken> out;
  Path path;
  bool value_follows = false;  // after ':', and after the sign of a number
  bool in_list = false;
  while (tokenizer.Next()) {
    const Tokenizer::Token& token = tokenizer.current();
    const bool is_name = token.type == Tokenizer::TYPE_IDENTIFIER && !value_follows && !in_list;
    if (is_name) path.name(token.text);
    if (token.text == "{" || token.text == "<") path.open();
    const std::string before_closing = path.field();
    if (token.text == "}" || token.text == ">") path.close();
    if (token.text == "[") in_list = true;
    if (token.text == "]") in_list = false;
    // Where a value is due, whatever stands there is about the field that lacks it.
    const std::string& field = value_follows ? before_closing : path.field();
    out.push_back({token.line, token.column, field, path.message(), is_name});
    value_follows = token.text == ":" || (value_follows && token.text == "-");
  }
  return out;
}

}  // namespace memwall
