// Numbers and tables for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace memwall {

std::string bytes_text(int64_t bytes);   // "512 B", "1.5 KiB", "24.3 MiB"
std::string count_text(int64_t count);   // "124,439,808"
std::string amount_text(double amount);  // "1.24 G", "830 M", "12"

// Columns as wide as their widest cell, two spaces apart; the first is aligned to the left.
class TextTable {
 public:
  enum class Align { kLeft, kRight };  // of the other columns

  explicit TextTable(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text(Align align = Align::kRight) const;  // lines, without spaces at their ends

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace memwall
