// `memwall generate`: continues a text.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "comm/agree.h"
#include "runtime/base/half.h"
#include "runtime/base/math.h"
#include "runtime/cli/saved_run.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/utf8_stream.h"
#include "runtime/cli/verbs.h"
#include "runtime/data/tokenizer.h"

namespace memwall {
namespace {

// Windows are multiples of this, so that attention's chunks divide them.
constexpr int64_t kWindowStep = 64;

// The positions that the weights were trained on: a run's own sequences, or all of the context
// where the weights came from elsewhere.
int64_t trained_positions(const config::Config& config) {
  const bool own = config.model().init_from().empty();
  return own ? config.data().seq_length() : config.model().context_length();
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const std::string& prompt,
                                   int64_t vocabulary) {
  if (prompt.empty()) throw InputError("is empty", "--prompt", "give the text to continue");
  std::vector<int32_t> tokens = tokenizer.encode(prompt);
  for (const int32_t token : tokens) {
    if (token < vocabulary) continue;
    throw InputError(fmt::format("holds token {}, which the model does not know", token),
                     "--prompt", fmt::format("its vocabulary is {}", vocabulary));
  }
  return tokens;
}

template <class S>
std::vector<double> widened(const Tensor& narrow) {
  std::vector<double> out(static_cast<size_t>(narrow.elements()));
  std::transform(narrow.as<S>(), narrow.as<S>() + out.size(), out.begin(),
                 [](S value) { return static_cast<float>(value); });
  return out;
}

std::vector<double> read_logits(const Tensor& logits) {
  const auto count = static_cast<size_t>(logits.elements());
  switch (logits.dtype) {
    case DType::kF64: return {logits.as<double>(), logits.as<double>() + count};
    case DType::kF32: return {logits.as<float>(), logits.as<float>() + count};
    case DType::kF16: return widened<Half>(logits);
    case DType::kBF16: return widened<BFloat16>(logits);
    default: throw InternalError("logits of another dtype");
  }
}

// What follows the last `window` of `tokens`. Rows after the prompt's last are padding, which
// causal attention never looks at.
std::vector<double> next_logits(Executor& executor, const std::vector<int32_t>& tokens) {
  const Tensor input = executor.slot(SlotKind::kTokens);
  const auto window = static_cast<size_t>(input.elements());
  const size_t known = std::min(window, tokens.size());
  std::fill_n(input.as<int32_t>(), window, 0);
  std::copy(tokens.end() - static_cast<std::ptrdiff_t>(known), tokens.end(), input.as<int32_t>());
  *executor.slot(SlotKind::kPosition).as<int32_t>() = static_cast<int32_t>(known - 1);
  executor.send(SlotKind::kTokens);
  executor.send(SlotKind::kPosition);
  executor.run(executor.plan().program("next_token"));
  return read_logits(executor.fetch(SlotKind::kLogits));
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

ExitCode generate_verb(const GenerateOptions& options, Job& job) {
  check_sampling(options.sampling);
  const SavedRun run = open_saved_run(options.run);
  GptSpec spec = gpt_spec(run.config);
  const auto tokenizer = make_tokenizer(run.config.data().tokenizer());
  std::vector<int32_t> tokens = encode_prompt(*tokenizer, options.prompt, spec.vocabulary);
  job.connect_for_inference(run.config.communication());
  Communicator& comm = job.comm();
  check_agreement(comm, {{"checkpoint", run.checkpoint}});

  spec.batch = 1;
  spec.dropout = 0.0;
  spec.time = std::min(trained_positions(run.config),
                       round_up(static_cast<int64_t>(tokens.size()) + options.tokens, kWindowStep));
  const config::Data& data = run.config.data();
  if (job.speaks() && data.tokens_size() > 0 && is_byte_tokenizer(data.tokenizer())) {
    fmt::print(stderr,
               "memwall: warning: the run was trained on token files; its tokens are taken for "
               "bytes, for data.tokenizer does not say how they were made\n");
  }
  CompileSettings settings = inference_settings(comm);
  settings.next_token = true;
  const auto model = load_model(run, spec, settings, job);

  Utf8Stream stream;
  const auto show = [&](const std::string& text) {
    if (job.speaks()) print(text);
  };
  show(stream.push(tokenizer->decode(tokens, true)));
  for (int64_t i = 0; i < options.tokens; ++i) {
    const std::vector<double> logits = next_logits(*model->executor, tokens);
    int32_t token = sample_token(logits, options.sampling, i);
    comm.broadcast(&token, sizeof(token), 0);  // machines may differ in the last bit
    tokens.push_back(token);
    show(stream.push(tokenizer->decode(std::span(&token, 1), false)));
  }
  show(stream.finish() + '\n');
  return ExitCode::kDone;
}

}  // namespace memwall
