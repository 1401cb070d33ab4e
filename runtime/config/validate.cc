#include <fmt/format.h>

#include <algorithm>

#include "runtime/base/math.h"
#include "runtime/config/config.h"
#include "runtime/config/fields.h"
#include "runtime/config/rules.h"
#include "runtime/config/units.h"

namespace memwall {
namespace {

// Attention runs in equal blocks of query rows: at least the first and at most the second.
constexpr int64_t kLeastBlock = 32, kMostBlock = 256;
constexpr int64_t kBytes = 256;  // tokens of the byte tokenizer
// Shards end at multiples of an averaging block: a larger one is padding, not averaging.
constexpr int64_t kMostAveraged = 65536;
constexpr int64_t kMostDraws = UINT32_MAX;  // random vectors of a run: base/rng.h

// What fields must be to each other. Holds where check_required and check_ranges found nothing.
class Relations {
 public:
  Relations(const GivenConfig& given, const config::Config& whole, int64_t ranks, Problems& out)
      : given_(given), whole_(whole), ranks_(ranks), out_(out) {}

  void check_model() {
    const config::Model& model = whole_.model();
    const int64_t hidden = model.hidden_size(), heads = model.num_heads();
    if (hidden % heads != 0) {
      const int64_t below = hidden / heads * heads;
      add("model.hidden_size", fmt::format("{} is not divisible by num_heads {}", hidden, heads),
          below > 0 ? fmt::format("{} or {}", below, below + heads) : fmt::format("{}", heads));
    }
    check_blocks("model.context_length", model.context_length());
  }

  void check_batches() {
    const config::Data& data = whole_.data();
    const int64_t context = whole_.model().context_length();
    if (data.seq_length() > context) {
      add("data.seq_length",
          fmt::format("{} is longer than model.context_length", data.seq_length()),
          fmt::format("at most {}", context));
    } else if (data.has_seq_length() && data.seq_length() != context) {
      check_blocks("data.seq_length", data.seq_length());
    }
    const int64_t micro_step = data.micro_batch_size() * ranks_;
    const int64_t global = data.global_batch_size();
    if (global > 0 && global % micro_step == 0) return;
    const int64_t below = global / micro_step * micro_step;
    add("data.global_batch_size",
        fmt::format("{} is not a multiple of micro_batch_size {} x {} rank{} = {}", global,
                    data.micro_batch_size(), ranks_, ranks_ == 1 ? "" : "s", micro_step),
        below > 0 ? fmt::format("{} or {}", below, below + micro_step)
                  : fmt::format("{}", micro_step));
  }

  void check_paths() {
    const config::Data& data = whole_.data();
    const auto check_path = [&](std::string_view field, bool is_empty) {
      if (is_empty) add(field, "is empty", "a path, or leave it out");
    };
    const auto any_empty = [](const auto& globs) {
      return std::any_of(globs.begin(), globs.end(), [](const auto& glob) { return glob.empty(); });
    };
    check_path("model.init_from",
               whole_.model().has_init_from() && whole_.model().init_from().empty());
    check_path("data.tokenizer", data.has_tokenizer() && data.tokenizer().empty());
    check_path("data.text", data.has_text() && data.text().empty());
    check_path("data.tokens", any_empty(data.tokens()));
    check_path("data.validation_tokens", any_empty(data.validation_tokens()));
  }

  void check_data(Purpose purpose) {
    const config::Data& data = whole_.data();
    if (data.has_text() && data.tokens_size() > 0) {
      add("data.tokens", "given beside data.text", "one of data.text and data.tokens");
    }
    if (purpose == Purpose::kTrain && !data.has_text() && data.tokens_size() == 0) {
      add("data.text", "is missing, and so is data.tokens", "one of data.text and data.tokens");
    }
    const int64_t vocabulary = whole_.model().vocab_size();
    if (data.has_text() && data.tokenizer() == "bytes" && vocabulary < kBytes) {
      add("model.vocab_size", fmt::format("{} is smaller than the byte tokenizer's", vocabulary),
          fmt::format("at least {}", kBytes));
    }
  }

  void check_rates() {
    const double rate = whole_.optimizer().learning_rate();
    const double least = whole_.schedule().min_learning_rate();
    if (least <= rate) return;
    add("schedule.min_learning_rate", fmt::format("{} is above optimizer.learning_rate", least),
        fmt::format("at most {}", rate));
  }

  void check_curvature() {
    const config::Optimizer& optimizer = whole_.optimizer();
    if (optimizer.kind() != config::Optimizer::ADAHESSIAN) return;
    const int64_t block = optimizer.adahessian().block_size();
    if (block != -1 && (block < 1 || block > kMostAveraged)) {
      add("optimizer.adahessian.block_size",
          fmt::format("{} is no number of elements to average", block),
          fmt::format("-1 for whole rows, or 1 to {}", kMostAveraged));
    }
    const int64_t steps = whole_.run().steps(), probes = optimizer.adahessian().probes();
    if (steps > 0 && probes > kMostDraws / steps) {
      add("optimizer.adahessian.probes",
          fmt::format("{} in each of {} steps are more random vectors than there are", probes,
                      steps),
          fmt::format("at most {}", kMostDraws / steps));
    }
  }

  void check_texts() {
    if (whole_.memory().has_budget()) {
      check_unit("memory.budget", [&] { parse_bytes(whole_.memory().budget()); });
    }
    if (whole_.run().has_time_limit()) {
      check_unit("run.time_limit", [&] { parse_duration_seconds(whole_.run().time_limit()); });
    }
    if (whole_.run().has_trace_steps()) {
      check_unit("run.trace_steps", [&] { check_traced(whole_.run().trace_steps()); });
    }
    const std::string& name = whole_.run().name();
    const bool names_a_folder =
        !name.empty() && name[0] != '.' && std::all_of(name.begin(), name.end(), [](char c) {
          return c == '-' || c == '_' || c == '.' || (c >= '0' && c <= '9') ||
                 (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        });
    if (!names_a_folder) {
      add("run.name", fmt::format("\"{}\" cannot begin a folder's name", name),
          "letters, digits, '-', '_' and '.', not '.' first");
    }
  }

 private:
  void add(std::string_view field, std::string reason, std::string allowed) {
    out_.push_back({given_.at(field), std::move(reason), std::move(allowed)});
  }

  void check_blocks(std::string_view field, int64_t length) {
    if (length <= kMostBlock || largest_divisor(length, kMostBlock) >= kLeastBlock) return;
    const int64_t below = length / 64 * 64;
    add(field,
        fmt::format("{} rows cannot be cut into equal blocks of {} to {}", length, kLeastBlock,
                    kMostBlock),
        fmt::format("multiples of 64, as {} and {}", below, below + 64));
  }

  void check_traced(const std::string& text) const {
    const int64_t last = parse_step_range(text).last, steps = whole_.run().steps();
    if (steps == 0 || last <= steps) return;  // none are given where only a plan is asked for
    throw InputError(fmt::format("step {} is beyond run.steps = {}", last, steps), "",
                     fmt::format("allowed: 1 to {}", steps));
  }

  template <class Parse>
  void check_unit(std::string_view field, Parse parse) {
    try {
      parse();
    } catch (const InputError& error) {
      add(field, error.what(), "");
    }
  }

  const GivenConfig& given_;
  const config::Config& whole_;
  int64_t ranks_;
  Problems& out_;
};

}  // namespace

void validate(const GivenConfig& given, int64_t ranks, Purpose purpose) {
  if (ranks < 1 || ranks > INT32_MAX) {
    throw InputError(fmt::format("{} ranks", ranks), "", "allowed: at least 1");
  }
  const config::Config whole = effective(given.config, ranks);
  Problems problems;
  check_device(given, whole, purpose, problems);
  check_required(given, purpose, problems);
  check_ranges(given, whole, problems);
  // The relations of values that are missing or impossible say nothing.
  if (problems.empty()) {
    Relations relations(given, whole, ranks, problems);
    relations.check_model();
    relations.check_batches();
    relations.check_paths();
    relations.check_data(purpose);
    relations.check_rates();
    relations.check_curvature();
    relations.check_texts();
  }
  check_effects(given, whole, problems);
  throw_problems(problems);
}

}  // namespace memwall
