#include "runtime/data/bpe_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "runtime/data/json_file.h"
#include "runtime/data/mapped_file.h"

namespace memwall {
namespace {

constexpr int64_t kMostIds = int64_t{1} << 24;
constexpr char kReplacement[] = "\xEF\xBF\xBD";
constexpr const char* kRemedy = "take vocab.json and merges.txt of the same tokenizer, unchanged";

using Ids = std::unordered_map<std::string, int32_t>;

// encoder.py, bytes_to_unicode: a byte that prints is its own symbol, the others are U+0100 on.
bool prints(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

std::array<std::string, 256> byte_symbols() {
  std::array<std::string, 256> symbols;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int point = prints(byte) ? byte : next++;
    std::string& symbol = symbols[static_cast<size_t>(byte)];
    if (point < 0x80) {
      symbol = static_cast<char>(point);
    } else {
      symbol = {static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))};
    }
  }
  return symbols;
}

// The bytes that a token's symbols stand for; the token itself where it has other characters.
std::string bytes_of_symbols(const std::string& token,
                             const std::unordered_map<std::string, char>& bytes) {
  std::string out;
  for (size_t i = 0; i < token.size();) {
    const size_t length = static_cast<unsigned char>(token[i]) < 0x80 ? 1 : 2;
    const auto found = bytes.find(token.substr(i, length));
    if (found == bytes.end()) return token;
    out += found->second;
    i += length;
  }
  return out;
}

Ids read_vocabulary(const std::string& path) {
  const nlohmann::json contents = read_json_file(path);
  Ids ids;
  std::unordered_map<int32_t, std::string> tokens;
  for (const auto& [token, value] : contents.items()) {
    if (!value.is_number_integer() || value < 0 || value >= kMostIds) {
      throw InputError(fmt::format("the id of '{}' is {}", token, value.dump()), path,
                       fmt::format("ids are whole numbers from 0 to {}", kMostIds - 1));
    }
    const auto id = value.get<int32_t>();
    const auto [other, is_new] = tokens.emplace(id, token);
    if (!is_new) {
      throw InputError(fmt::format("'{}' and '{}' have the same id {}", other->second, token, id),
                       path, kRemedy);
    }
    ids.emplace(token, id);
  }
  if (ids.empty()) throw InputError("holds no token", path, kRemedy);
  return ids;
}

void take_vocabulary(const Ids& ids, const std::string& path, BpeFiles& out) {
  const auto symbols = byte_symbols();
  std::unordered_map<std::string, char> bytes;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string& symbol = symbols[static_cast<size_t>(byte)];
    bytes.emplace(symbol, static_cast<char>(byte));
    const auto found = ids.find(symbol);
    if (found == ids.end()) {
      throw InputError(fmt::format("no token for byte 0x{:02X}, spelled '{}'", byte, symbol), path,
                       "a byte-level vocabulary has a token for each of the 256 bytes");
    }
    out.byte_ids[static_cast<size_t>(byte)] = found->second;
  }
  for (const auto& [token, id] : ids) {
    const auto at = static_cast<size_t>(id);
    if (at >= out.bytes.size()) out.bytes.resize(at + 1, kReplacement);
    out.bytes[at] = bytes_of_symbols(token, bytes);
  }
  const auto end_of_text = ids.find("<|endoftext|>");
  if (end_of_text != ids.end()) out.end_of_text = end_of_text->second;
}

// One line of merges.txt: two tokens whose concatenation is one, too.
class MergeReader {
 public:
  MergeReader(const Ids& ids, std::string path, BpeFiles& out)
      : ids_(ids), path_(std::move(path)), out_(out) {}

  void read(std::string_view line, int64_t number) {
    number_ = number;
    const size_t space = line.find(' ');
    const std::string left(line.substr(0, space));
    const std::string right(space == line.npos ? "" : line.substr(space + 1));
    if (left.empty() || right.empty() || right.find(' ') != right.npos) {
      refuse(fmt::format("'{}' is not two tokens", line),
             "a line is two tokens and a space between");
    }
    const int32_t left_id = id_of(left), right_id = id_of(right);
    const BpeMerge merge{static_cast<int32_t>(out_.merges.size()), id_of(left + right)};
    if (!out_.merges.emplace(bpe_pair(left_id, right_id), merge).second) {
      refuse(fmt::format("'{}' stands on an earlier line, too", line), kRemedy);
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& what, const char* remedy) const {
    throw InputError(what, fmt::format("{}: line {}", path_, number_), remedy);
  }
  int32_t id_of(const std::string& token) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) refuse(fmt::format("'{}' is no token of vocab.json", token), kRemedy);
    return found->second;
  }

  const Ids& ids_;
  std::string path_;
  BpeFiles& out_;
  int64_t number_ = 0;
};

void read_merges(std::string_view text, MergeReader reader) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool is_version = number == 1 && line.starts_with("#version");
    const bool is_last = text.empty();
    if (is_version || (is_last && line.empty())) continue;
    reader.read(line, number);
  }
}

std::string file_in(const std::string& folder, const char* name) {
  const std::string path = (std::filesystem::path(folder) / name).string();
  if (std::filesystem::exists(path)) return path;
  throw InputError(fmt::format("holds no {}", name), folder,
                   "a GPT-2 tokenizer is vocab.json and merges.txt; of a SentencePiece model name "
                   "the file itself");
}

}  // namespace

BpeFiles read_bpe_files(const std::string& folder) {
  const std::string vocabulary = file_in(folder, "vocab.json");
  const std::string merges = file_in(folder, "merges.txt");
  BpeFiles out;
  const Ids ids = read_vocabulary(vocabulary);
  take_vocabulary(ids, vocabulary, out);
  const MappedFile file(merges);
  const auto bytes = file.bytes();
  read_merges({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
              MergeReader(ids, merges, out));
  const MappedFile json(vocabulary);
  out.fingerprint =
      hash_bytes(bytes.data(), bytes.size(), hash_bytes(json.bytes().data(), json.bytes().size()));
  return out;
}

}  // namespace memwall
