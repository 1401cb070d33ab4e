// `memwall tokenize`: token files from texts.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comm/agree.h"
#include "runtime/cli/encode_progress.h"
#include "runtime/cli/tables.h"
#include "runtime/cli/verbs.h"
#include "runtime/data/dataset.h"
#include "runtime/data/encoded_text.h"
#include "runtime/data/token_files.h"
#include "runtime/data/tokenizer.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;

// As configurations and READMEs name them: data/train_*.bin, data/val_*.bin.
constexpr const char* kTraining = "train";
constexpr const char* kValidation = "val";
constexpr double kTimeout = 600.0;

struct Outcome {
  int64_t text_bytes = 0, token_bytes = 0, separators = 0;
  int64_t training = 0, validation = 0;  // tokens
  int64_t vocabulary = 0;
  double encode_seconds = 0.0;
  std::vector<std::string> files;
};

// A folder that was made for nothing goes again.
class NewFolder {
 public:
  explicit NewFolder(std::string path) : path_(std::move(path)) {
    std::error_code error;
    made_ = fs::create_directories(path_, error);
    if (error || !fs::is_directory(path_)) {
      throw InputError("cannot make the folder" + (error ? ": " + error.message() : ""), path_,
                       "name a folder that is there or can be made");
    }
  }
  ~NewFolder() {
    std::error_code not_empty;
    if (made_) fs::remove(path_, not_empty);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

 private:
  std::string path_;
  bool made_ = false;
};

Outcome tokenize(const TokenizeOptions& options) {
  if (!options.overwrites) check_no_token_files(options.output, {kTraining, kValidation});
  const auto tokenizer = make_tokenizer(options.tokenizer);
  const NewFolder folder(options.output);
  Outcome out;
  out.vocabulary = tokenizer->vocabulary();
  const auto started = std::chrono::steady_clock::now();
  EncodedText text = encode_texts(options.texts, *tokenizer,
                                  {.separates = !options.no_separator,
                                   .folder = options.output,
                                   .progress = encode_progress()});
  out.encode_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  out.text_bytes = text.text_bytes;
  out.token_bytes = text.token_bytes;
  out.separators = text.separators;
  const auto source =
      std::make_shared<const TokenSource>(TokenSource::from_encoded(std::move(text)));
  out.training = training_tokens(source->size(), options.validation_fraction);
  out.validation = source->size() - out.training;
  if (out.training == 0) {
    throw InputError(fmt::format("no token of {} is left for training", source->size()),
                     "--validation-fraction", "a smaller fraction, or more text");
  }
  out.files = write_token_files({{kTraining, {source, 0, out.training}},
                                 {kValidation, {source, out.training, out.validation}}},
                                {.folder = options.output,
                                 .narrow = out.token_bytes == kNarrowTokens.token_bytes,
                                 .tokens_per_file = options.tokens_per_file,
                                 .overwrites = options.overwrites});
  return out;
}

void print_json(const TokenizeOptions& options, const Outcome& outcome) {
  const nlohmann::ordered_json object = {
      {"text_bytes", outcome.text_bytes},
      {"documents", options.texts.size()},
      {"separators", outcome.separators},
      {"tokens", outcome.training + outcome.validation},
      {"training_tokens", outcome.training},
      {"validation_tokens", outcome.validation},
      {"vocabulary", outcome.vocabulary},
      {"token_bytes", outcome.token_bytes},
      {"encode_seconds", outcome.encode_seconds},
      {"bytes_per_second", static_cast<double>(outcome.text_bytes) / outcome.encode_seconds},
      {"files", outcome.files}};
  fmt::print("{}\n", object.dump());
}

void print_summary(const TokenizeOptions& options, const Outcome& outcome) {
  const auto bytes = static_cast<double>(outcome.text_bytes);
  const auto tokens = static_cast<double>(outcome.training + outcome.validation);
  fmt::print("{} tokens of {} bytes of text, {:.2f} bytes a token, {:.1f} MB/s\n",
             count_text(outcome.training + outcome.validation), count_text(outcome.text_bytes),
             bytes / tokens, bytes / 1e6 / outcome.encode_seconds);
  fmt::print("vocabulary {}, {}-bit ids, {} separator{} between {} document{}\n",
             count_text(outcome.vocabulary), 8 * outcome.token_bytes, outcome.separators,
             outcome.separators == 1 ? "" : "s", options.texts.size(),
             options.texts.size() == 1 ? "" : "s");
  for (const std::string& file : outcome.files) fmt::print("wrote {}\n", file);
  const std::string at = (fs::path(options.output) / "").string();
  fmt::print("to train: --set 'data.tokens={}{}_*.bin' ", at, kTraining);
  if (outcome.validation > 0) {
    fmt::print("--set 'data.validation_tokens={}{}_*.bin' ", at, kValidation);
  }
  fmt::print("--set 'data.tokenizer={}'\n", options.tokenizer);
}

}  // namespace

ExitCode tokenize_verb(const TokenizeOptions& options, Job& job) {
  if (job.ranks() > 1) {
    job.connect(kTimeout);
    run_together(job.comm(), [&] {
      throw InputError("runs in one process", "tokenize", "start it without mpirun or srun");
    });
  }
  const Outcome outcome = tokenize(options);
  options.json ? print_json(options, outcome) : print_summary(options, outcome);
  return ExitCode::kDone;
}

}  // namespace memwall
