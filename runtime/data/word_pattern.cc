#include "runtime/data/word_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>

#include "runtime/base/error.h"

namespace memwall {
namespace {

// What Python and Rust take \s for: Unicode's White_Space. PCRE2's own \s has U+180E as well.
constexpr const char* kSpace =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::string pattern() {
  const std::string space = kSpace;
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" + space + R"(\p{L}\p{N}]+|[)" + space +
         "]+(?![^" + space + "])|[" + space + "]+";
}

std::string message_of(int status) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(status, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct WordPattern::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  ~Compiled() {
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }
};

WordPattern::WordPattern() : compiled_(std::make_unique<Compiled>()) {
  const std::string text = pattern();
  int status = 0;
  PCRE2_SIZE at = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &status, &at, nullptr);
  if (compiled_->code == nullptr) {
    throw Error("cannot compile GPT-2's word pattern: " + message_of(status), "PCRE2",
                "use a PCRE2 with Unicode support");
  }
  // Where machine code may not be generated, matching is interpreted: slower, the same words.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
  compiled_->match = pcre2_match_data_create(1, nullptr);
  if (compiled_->match == nullptr) throw Error("out of memory", "PCRE2", "free some memory");
}

WordPattern::~WordPattern() = default;

size_t WordPattern::word_end(std::string_view text, size_t begin) const {
  const int status = pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                 text.size(), begin, PCRE2_NO_UTF_CHECK, compiled_->match, nullptr);
  if (status < 0) throw InternalError("no word: " + message_of(status), std::to_string(begin));
  const size_t end = pcre2_get_ovector_pointer(compiled_->match)[1];
  check(end > begin, "an empty word");
  return end;
}

}  // namespace memwall
