#include <google/protobuf/text_format.h>

#include "runtime/base/error.h"
#include "runtime/config/config.h"
#include "runtime/config/overrides.h"
#include "runtime/config/text_file.h"

namespace memwall {

std::string GivenConfig::at(std::string_view field) const {
  return place_of(file, places, field);
}

GivenConfig load_config(const std::string& path, const std::vector<std::string>& overrides) {
  GivenConfig out;
  out.file = path;
  out.places = read_text_file(path, {"configuration", "configs/*.textproto"}, out.config);
  apply_overrides(out, overrides);
  return out;
}

std::string to_text(const config::Config& config) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  std::string text;
  check(printer.PrintToString(config, &text), "a configuration prints as text");
  return text;
}

}  // namespace memwall
