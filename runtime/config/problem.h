// One line of an error about a configuration. Private to this room.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/error.h"

namespace memwall {

struct Problem {
  std::string at;  // place and field: "tiny.textproto:3: model.num_layers"
  std::string reason;
  std::string allowed;  // may be empty
};

// Throws the first five as one InputError; returns where there is none.
void throw_problems(const std::vector<Problem>& problems);

}  // namespace memwall
