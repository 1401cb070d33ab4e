// Static shapes of up to four dimensions, row-major, 64-bit.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/base/error.h"

namespace memwall {

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    check(dims.size() <= kMaxRank, "a shape has at most four dimensions");
    for (int64_t dim : dims) dims_[static_cast<size_t>(rank_++)] = dim;
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)]; }
  void append(int64_t dim) {
    check(rank_ < kMaxRank, "a shape has at most four dimensions");
    dims_[static_cast<size_t>(rank_++)] = dim;
  }
  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= (*this)[i];
    return product;
  }
  bool operator==(const Shape&) const = default;

  std::string text() const {  // "[2,3]"
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? "," : "") + std::to_string((*this)[i]);
    return out + "]";
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace memwall
