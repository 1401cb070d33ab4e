// Text that arrives in pieces, which may end inside a character.
#pragma once

#include <string>
#include <string_view>

namespace memwall {

// What `push` and `finish` return is always whole characters; a byte that belongs to none, and a
// character that was never completed, become U+FFFD.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();

 private:
  std::string pending_;  // the beginning of a character
};

}  // namespace memwall
