// What is said while a text is encoded, which takes a while where it is long.
#pragma once

#include "runtime/data/encoded_text.h"

namespace memwall {

// Writes a line to standard error every two seconds: "memwall: encoded 120.0 of 350.1 MB, 14.9
// MB/s".
EncodeProgress encode_progress();

}  // namespace memwall
