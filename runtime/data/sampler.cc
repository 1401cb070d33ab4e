#include "runtime/data/sampler.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/math.h"
#include "runtime/base/rng.h"

namespace memwall {
namespace {

// Streams of the run's seed. Dropout sites and parameter tensors number theirs from 0.
constexpr uint32_t kEpochStream = 0xDA7A0000u;
constexpr uint32_t kFeistelStream = 0xDA7A0001u;
constexpr uint32_t kOffsetStream = 0xDA7A0002u;
constexpr int kFeistelRounds = 8;

using Wide = unsigned __int128;

uint64_t random_word(uint64_t seed, uint32_t stream, uint64_t index) {
  const RandomBlock bits = random_block(seed, stream, index);
  return uint64_t{bits[1]} << 32 | bits[0];
}

// Uniform over [0, size), to within size / 2^64: the high word of a product.
int64_t random_below(int64_t size, uint64_t bits) {
  return static_cast<int64_t>(static_cast<Wide>(bits) * static_cast<Wide>(size) >> 64);
}

int64_t windows_in(const TokenRange& part, int64_t seq_length) {
  check(seq_length > 0 && part.size > seq_length, "a part holds at least one window");
  return (part.size - 1) / seq_length;
}

void read_window(const TokenRange& part, int64_t first, std::span<int32_t> tokens,
                 std::span<int32_t> targets) {
  part.read(first, tokens);
  part.read(first + 1, targets);
}

// Positions modulo the size of the part; a window may go round more than once.
void read_circular(const TokenRange& part, int64_t first, std::span<int32_t> out) {
  first %= part.size;
  while (!out.empty()) {
    const auto count = std::min(static_cast<int64_t>(out.size()), part.size - first);
    part.read(first, out.first(static_cast<size_t>(count)));
    out = out.subspan(static_cast<size_t>(count));
    first = 0;
  }
}

std::span<int32_t> row_of(std::span<int32_t> rows, size_t row, size_t count) {
  const size_t width = rows.size() / count;
  return rows.subspan(row * width, width);
}

}  // namespace

Permutation::Permutation(int64_t size, uint64_t seed, int64_t epoch)
    : size_(static_cast<uint64_t>(size)),
      key_(random_word(seed, kEpochStream, static_cast<uint64_t>(epoch))) {
  check(size > 0 && size <= int64_t{1} << 62, "a permutation has 1 to 2^62 elements");
  const auto bits = static_cast<int>(std::bit_width(size_ - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t round = 0; round < kFeistelRounds; ++round) {
    const uint64_t mixed = random_block(key_, kFeistelStream, round << 32 | right)[0];
    left = std::exchange(right, left ^ (mixed & mask));
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t index) const {
  check(index >= 0 && static_cast<uint64_t>(index) < size_, "an index outside the permutation");
  auto value = static_cast<uint64_t>(index);
  do {
    value = encrypt(value);  // the orbit returns to `index`, which is inside, so this ends
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

Sampler::Sampler(TokenRange training, Sampling sampling, int64_t seq_length, uint64_t seed)
    : training_(std::move(training)),
      sampling_(sampling),
      seq_length_(seq_length),
      windows_(windows_in(training_, seq_length)),
      seed_(seed) {}

int64_t Sampler::offset(int64_t sample) const {
  check(sample >= 0, "global samples count from 0");
  switch (sampling_) {
    case Sampling::kShuffled:
      return Permutation(windows_, seed_, sample / windows_)(sample % windows_) * seq_length_;
    case Sampling::kRandomOffset:
      return random_below(training_.size - seq_length_,
                          random_word(seed_, kOffsetStream, static_cast<uint64_t>(sample)));
    case Sampling::kSequential: {
      // sample * T may exceed 64 bits; only its residue counts.
      const Wide position = static_cast<Wide>(sample) * static_cast<Wide>(seq_length_);
      return static_cast<int64_t>(position % static_cast<Wide>(training_.size));
    }
  }
  throw InternalError("unknown sampling");
}

void Sampler::fill(int64_t sample, std::span<int32_t> tokens, std::span<int32_t> targets) const {
  check(static_cast<int64_t>(tokens.size()) == seq_length_ && targets.size() == tokens.size(),
        "a sample is seq_length tokens and as many targets");
  const int64_t first = offset(sample);
  if (sampling_ == Sampling::kSequential) {
    read_circular(training_, first, tokens);
    read_circular(training_, first + 1, targets);
  } else {
    read_window(training_, first, tokens, targets);
  }
}

void fill_micro_batch(const Sampler& sampler, const BatchLayout& layout, int64_t step,
                      int64_t micro_step, int64_t rank, std::span<int32_t> tokens,
                      std::span<int32_t> targets, std::span<int64_t> samples) {
  const auto rows = static_cast<size_t>(layout.micro_batch);
  check(samples.size() == rows && tokens.size() % rows == 0, "a micro-batch has micro_batch rows");
  for (size_t row = 0; row < rows; ++row) {
    samples[row] = layout.sample(step, micro_step, rank, static_cast<int64_t>(row));
    sampler.fill(samples[row], row_of(tokens, row, rows), row_of(targets, row, rows));
  }
}

ValidationWindows::ValidationWindows(TokenRange validation, int64_t seq_length, int64_t ranks,
                                     int64_t micro_batch)
    : validation_(std::move(validation)),
      seq_length_(seq_length),
      ranks_(ranks),
      micro_batch_(micro_batch),
      windows_(windows_in(validation_, seq_length)) {
  check(ranks > 0 && micro_batch > 0, "ranks and micro_batch are positive");
}

int64_t ValidationWindows::rounds() const {
  return ceil_div(windows_, ranks_ * micro_batch_);
}

int64_t ValidationWindows::window(int64_t round, int64_t rank, int64_t row) const {
  const int64_t index = (round * ranks_ + rank) * micro_batch_ + row;
  return index < windows_ ? index : -1;
}

void ValidationWindows::fill(int64_t round, int64_t rank, std::span<int32_t> tokens,
                             std::span<int32_t> targets, std::span<double> weights) const {
  const auto rows = static_cast<size_t>(micro_batch_);
  check(weights.size() == rows && tokens.size() == targets.size() &&
            static_cast<int64_t>(tokens.size()) == micro_batch_ * seq_length_,
        "a validation batch is (micro_batch, seq_length)");
  for (size_t row = 0; row < rows; ++row) {
    const int64_t index = window(round, rank, static_cast<int64_t>(row));
    weights[row] = index < 0 ? 0.0 : 1.0;
    read_window(validation_, std::max<int64_t>(index, 0) * seq_length_, row_of(tokens, row, rows),
                row_of(targets, row, rows));
  }
}

}  // namespace memwall
