// One line of a dump: a keyword and key=value fields, in order.
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "runtime/base/error.h"

namespace memwall {

// The first line of a dump; its number grows with the format.
constexpr std::string_view kPlanHeader = "memwall-plan-1";

class RecordWriter {
 public:
  RecordWriter(std::string& out, std::string_view keyword) : out_(out) { out_ += keyword; }
  ~RecordWriter() { out_ += '\n'; }
  RecordWriter(const RecordWriter&) = delete;
  RecordWriter& operator=(const RecordWriter&) = delete;

  void operator()(std::string_view key, std::string_view value) {
    out_ += ' ';
    out_ += key;
    out_ += '=';
    out_ += value;
  }
  void operator()(std::string_view key, int64_t value) { number(key, value); }
  void operator()(std::string_view key, double value) { number(key, value); }  // shortest exact

 private:
  template <class T>
  void number(std::string_view key, T value) {
    char buffer[40];
    const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
    (*this)(key, std::string_view(buffer, static_cast<size_t>(end - buffer)));
  }
  std::string& out_;
};

class RecordReader {
 public:
  // `where`: FILE:LINE, for messages.
  RecordReader(std::string_view line, std::string where) : where_(std::move(where)) {
    size_t at = line.find(' ');
    keyword_ = line.substr(0, at);
    while (at != std::string_view::npos) {
      const size_t begin = at + 1;
      at = line.find(' ', begin);
      const std::string_view field =
          line.substr(begin, at == std::string_view::npos ? at : at - begin);
      const size_t equals = field.find('=');
      if (equals == std::string_view::npos) fail("a field without '='");
      fields_[field.substr(0, equals)] = field.substr(equals + 1);
    }
  }
  std::string_view keyword() const { return keyword_; }
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(what, where_, "not a plan that this version wrote");
  }

  std::string_view text(std::string_view key) const {
    const auto entry = fields_.find(key);
    if (entry == fields_.end()) fail("no field " + std::string(key));
    return entry->second;
  }
  template <class T>
  T number(std::string_view key) const {
    const std::string_view value = text(key);
    T out{};
    const auto result = std::from_chars(value.data(), value.data() + value.size(), out);
    if (result.ec != std::errc() || result.ptr != value.data() + value.size()) {
      fail("field " + std::string(key) + " is no number");
    }
    return out;
  }
  int64_t integer(std::string_view key) const { return number<int64_t>(key); }
  void operator()(std::string_view key, int64_t& value) const { value = number<int64_t>(key); }
  void operator()(std::string_view key, double& value) const { value = number<double>(key); }

 private:
  std::string where_;
  std::string_view keyword_;
  std::map<std::string_view, std::string_view> fields_;
};

}  // namespace memwall
