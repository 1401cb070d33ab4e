// A slot's elements. Private to this room.
#pragma once

#include <span>

#include "runtime/kernels/kernel.h"

namespace memwall {

template <class T>
std::span<T> elements_of(const Tensor& tensor) {
  return {tensor.as<T>(), static_cast<size_t>(tensor.elements())};
}

}  // namespace memwall
