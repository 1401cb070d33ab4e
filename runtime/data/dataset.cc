#include "runtime/data/dataset.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "runtime/base/error.h"
#include "runtime/data/tokenizer.h"

namespace memwall {
namespace {

std::shared_ptr<const TokenSource> open_files(const std::vector<std::string>& patterns,
                                              const TokenSourceOptions& options) {
  return std::make_shared<TokenSource>(TokenSource::from_token_files(patterns, options));
}

void check_length(const TokenRange& part, std::string_view name, const DatasetSpec& spec,
                  const std::string& where, std::string_view remedy) {
  if (part.size > spec.seq_length) return;
  throw InputError(fmt::format("the {} part has {} tokens, one window needs {}", name, part.size,
                               spec.seq_length + 1),
                   where, fmt::format("more text, a smaller data.seq_length{}", remedy));
}

void check_vocabulary(const Tokenizer& tokenizer, const DatasetSpec& spec) {
  if (spec.vocabulary >= tokenizer.vocabulary()) return;
  throw InputError(fmt::format("{} is smaller than the {} tokens of {}", spec.vocabulary,
                               tokenizer.vocabulary(), spec.tokenizer),
                   "model.vocab_size", fmt::format("allowed: at least {}", tokenizer.vocabulary()));
}

TokenSource open_text(const DatasetSpec& spec, const TokenSourceOptions& options) {
  if (is_byte_tokenizer(spec.tokenizer)) return TokenSource::from_text(spec.text, options);
  const auto tokenizer = make_tokenizer(spec.tokenizer);
  check_vocabulary(*tokenizer, spec);
  const std::vector<std::string> texts{spec.text};
  return TokenSource::from_encoded(encode_texts(texts, *tokenizer, {.progress = spec.progress}));
}

}  // namespace

int64_t training_tokens(int64_t tokens, double validation_fraction) {
  return static_cast<int64_t>(
      std::floor(static_cast<double>(tokens) * (1.0 - validation_fraction)));
}

Dataset open_dataset(const DatasetSpec& spec) {
  check(spec.text.empty() != spec.token_files.empty(), "data is either a text or token files");
  check(spec.seq_length > 0, "seq_length is positive");
  check(spec.validation_fraction >= 0.0 && spec.validation_fraction < 1.0,
        "validation_fraction is in [0, 1)");
  const TokenSourceOptions options{.vocabulary = spec.vocabulary, .verify = spec.verify};
  const std::shared_ptr<const TokenSource> source =
      spec.text.empty() ? open_files(spec.token_files, options)
                        : std::make_shared<TokenSource>(open_text(spec, options));
  if (spec.text.empty() && spec.verify && !is_byte_tokenizer(spec.tokenizer)) {
    check_vocabulary(*make_tokenizer(spec.tokenizer), spec);
  }
  const std::string& where = spec.text.empty() ? spec.token_files.front() : spec.text;

  Dataset dataset;
  dataset.fingerprint = source->fingerprint();
  if (!spec.validation_token_files.empty()) {
    dataset.training = {source, 0, source->size()};
    const auto validation = open_files(spec.validation_token_files, options);
    dataset.validation = {validation, 0, validation->size()};
    dataset.fingerprint ^= validation->fingerprint() * 3;  // not symmetric in the two
    check_length(dataset.training, "training", spec, where, "");
    check_length(dataset.validation, "validation", spec, spec.validation_token_files.front(), "");
    return dataset;
  }
  const int64_t training = training_tokens(source->size(), spec.validation_fraction);
  dataset.training = {source, 0, training};
  dataset.validation = {source, training, source->size() - training};
  const bool validates = spec.validation_fraction > 0.0;
  check_length(dataset.training, "training", spec, where,
               validates ? " or a smaller data.validation_fraction" : "");
  if (validates) {
    check_length(dataset.validation, "validation", spec, where,
                 " or another data.validation_fraction (0: no validation)");
  }
  return dataset;
}

}  // namespace memwall
