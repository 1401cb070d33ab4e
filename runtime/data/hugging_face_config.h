// Private to this room; reading is declared in hugging_face.h.
#pragma once

#include <string>

namespace memwall {

struct Gpt2Config;

// A config.json that is complete and depends on nothing but `config`.
std::string gpt2_config_json(const Gpt2Config& config);

}  // namespace memwall
