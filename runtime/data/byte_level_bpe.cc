#include "runtime/data/byte_level_bpe.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/data/utf8.h"

namespace memwall {
namespace {

constexpr size_t kTokensAtOnce = size_t{1} << 16;
constexpr size_t kLongestCached = 64;             // bytes of a word
constexpr size_t kMostCached = size_t{1} << 17;   // words
constexpr size_t kLongestWord = size_t{1} << 30;  // bytes: positions are 32 bits wide

}  // namespace

ByteLevelBpe::ByteLevelBpe(const std::string& folder) : files_(read_bpe_files(folder)) {}

void ByteLevelBpe::encode(std::string_view text, const TokenSink& sink) const {
  if (find_invalid_utf8(text)) return encode(replace_invalid_utf8(text), sink);
  std::vector<int32_t> tokens;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = pattern_.word_end(text, begin);
    append_word(text.substr(begin, end - begin), tokens);
    begin = end;
    if (tokens.size() < kTokensAtOnce && begin < text.size()) continue;
    sink(tokens, begin);
    tokens.clear();
  }
}

void ByteLevelBpe::append_word(std::string_view word, std::vector<int32_t>& out) const {
  if (word.size() > kLongestCached) return merge(word, out);
  auto known = cache_.find(word);
  if (known == cache_.end()) {
    if (cache_.size() == kMostCached) cache_.clear();
    known = cache_.emplace(word, std::vector<int32_t>()).first;
    merge(word, known->second);
  }
  out.insert(out.end(), known->second.begin(), known->second.end());
}

// The reference (encoder.py, bpe) merges every occurrence of the pair of least rank, left to right,
// before it looks for the next pair. So do we, in n log n steps for a word of n bytes.
void ByteLevelBpe::merge(std::string_view word, std::vector<int32_t>& out) const {
  if (word.size() > kLongestWord) {
    throw InputError(fmt::format("a word of {} bytes", word.size()), "the text",
                     "break it by spaces or new lines");
  }
  const auto count = static_cast<int32_t>(word.size());
  symbols_.clear();
  heap_.clear();
  for (int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<size_t>(i)]);
    symbols_.push_back({files_.byte_ids[byte], i - 1, i + 1 < count ? i + 1 : kNone});
  }
  for (int32_t i = 0; i < count; ++i) propose(i);
  while (!heap_.empty()) merge_least_rank();
  for (int32_t i = 0; i != kNone; i = symbols_[static_cast<size_t>(i)].next) {
    out.push_back(symbols_[static_cast<size_t>(i)].id);
  }
}

void ByteLevelBpe::merge_least_rank() const {
  const int32_t rank = heap_.front().rank;
  changed_.clear();
  while (!heap_.empty() && heap_.front().rank == rank) {
    const Candidate candidate = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
    Symbol& left = symbols_[static_cast<size_t>(candidate.left)];
    if (left.id != candidate.left_id || left.next == kNone) continue;
    Symbol& right = symbols_[static_cast<size_t>(left.next)];
    if (right.id != candidate.right_id) continue;
    left.id = files_.merges.at(bpe_pair(candidate.left_id, candidate.right_id)).result;
    right.id = kNone;
    left.next = right.next;
    if (left.next != kNone) symbols_[static_cast<size_t>(left.next)].previous = candidate.left;
    changed_.push_back(candidate.left);
  }
  for (const int32_t at : changed_) {
    propose(at);
    if (symbols_[static_cast<size_t>(at)].previous != kNone) {
      propose(symbols_[static_cast<size_t>(at)].previous);
    }
  }
}

void ByteLevelBpe::propose(int32_t left) const {
  const Symbol& first = symbols_[static_cast<size_t>(left)];
  if (first.next == kNone) return;
  const int32_t second = symbols_[static_cast<size_t>(first.next)].id;
  const auto found = files_.merges.find(bpe_pair(first.id, second));
  if (found == files_.merges.end()) return;
  heap_.push_back({found->second.rank, left, first.id, second});
  std::push_heap(heap_.begin(), heap_.end());
}

std::string ByteLevelBpe::decode(std::span<const int32_t> tokens, bool /*begins*/) const {
  std::string text;
  for (const int32_t token : tokens) {
    const bool is_token = token >= 0 && token < vocabulary();
    text += is_token ? files_.bytes[static_cast<size_t>(token)] : "\xEF\xBF\xBD";
  }
  return text;
}

}  // namespace memwall
