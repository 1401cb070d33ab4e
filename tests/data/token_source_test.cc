// Texts and token files: what is read, and what is refused with which words.
#include "runtime/data/token_source.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/dataset.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/utf8.h"
#include "tests/data/temporary_folder.h"
#include "tests/data/tokenizer_fixture.h"

namespace memwall {
namespace {

using Ids = std::vector<int32_t>;

Ids all_of(const TokenSource& source) {
  Ids ids(static_cast<size_t>(source.size()));
  source.read(0, ids);
  return ids;
}

std::string llmc_file(int32_t magic, int32_t version, int32_t count, const std::string& tokens) {
  std::vector<int32_t> header(256, 0);
  header[0] = magic, header[1] = version, header[2] = count;
  return bytes_of(header) + tokens;
}

std::string raw(std::vector<uint16_t> ids) {
  return bytes_of(ids);
}

TokenSource open_files(std::vector<std::string> patterns, int64_t vocabulary = 65536) {
  return TokenSource::from_token_files(patterns, {.vocabulary = vocabulary});
}

std::optional<int64_t> invalid(std::string_view text) {
  return find_invalid_utf8(std::as_bytes(std::span(text.data(), text.size())));
}

TEST(Utf8, AcceptsTheEdgesOfEveryLength) {
  for (std::string_view text :
       {"", "ascii", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
        "\xEF\xBB\xBF"
        "mark"}) {
    EXPECT_EQ(invalid(text), std::nullopt) << text;
  }
  EXPECT_EQ(invalid(std::string_view("\0a\0", 3)), std::nullopt);
}

TEST(Utf8, FindsIllFormedSequencesAtEveryOffset) {
  const std::vector<std::string_view> bad{"\x80",
                                          "\xBF",
                                          "\xC0\x80",
                                          "\xC1\xBF",  // stray, overlong
                                          "\xC2",
                                          "\xC2\x41",
                                          "\xE1\x80",
                                          "\xF1\x80\x80",  // truncated
                                          "\xE0\x9F\xBF",
                                          "\xF0\x8F\xBF\xBF",  // overlong
                                          "\xED\xA0\x80",
                                          "\xED\xBF\xBF",  // surrogates
                                          "\xF4\x90\x80\x80",
                                          "\xF5\x80\x80\x80",
                                          "\xFF",
                                          "\xFE"};
  for (std::string_view sequence : bad) {
    for (size_t before = 0; before < 20; ++before) {
      for (std::string_view after : {"", "z", "tail of many letters"}) {
        const std::string text =
            std::string(before, 'a') + std::string(sequence) + std::string(after);
        EXPECT_EQ(invalid(text), static_cast<int64_t>(before)) << before << " " << after;
      }
    }
  }
  EXPECT_EQ(invalid("\xE2\x82\xAC\xE2\x82"), 3);
  // The text ends inside a character whose rest lies behind the end.
  for (size_t size : {1, 2, 3}) {
    EXPECT_EQ(invalid(std::string_view("\xF0\x9F\x98\x80").substr(0, size)), 0);
  }
}

TEST(Utf8, AgreesWithTheDefinitionOnAllTwoByteTexts) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      const bool pair = a >= 0xC2 && a <= 0xDF && b >= 0x80 && b <= 0xBF;
      const std::optional<int64_t> expected =
          pair || (a < 128 && b < 128) ? std::nullopt : std::optional<int64_t>(a < 128 ? 1 : 0);
      ASSERT_EQ(invalid(text), expected) << a << " " << b;
    }
  }
}

TEST(Utf8, ReplacesMaximalBeginnings) {
  constexpr const char* kBad = "\xEF\xBF\xBD";
  const auto replaced = [](std::string_view text) { return replace_invalid_utf8(text); };
  const std::string once = kBad, twice = once + kBad;
  EXPECT_EQ(replaced("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(replaced("a\xFF-\x80"), "a" + once + "-" + once);
  EXPECT_EQ(replaced("\xE2\x82"), once);  // one beginning, one U+FFFD
  EXPECT_EQ(replaced("\xF0\x9F\x98z"), once + "z");
  EXPECT_EQ(replaced("\xC0\xAF"), twice);             // neither byte begins anything
  EXPECT_EQ(replaced("\xED\xA0\x80"), twice + kBad);  // a surrogate
  EXPECT_EQ(replaced("\xE2\x82\xF0\x9F\x98\x80"), once + "\xF0\x9F\x98\x80");
}

TEST(TokenSource, TextIsItsBytes) {
  const TemporaryFolder folder;
  const auto source =
      TokenSource::from_text(folder.write("t", "h\xC3\xA9llo"), {.vocabulary = 256});
  EXPECT_EQ(all_of(source), (Ids{104, 195, 169, 108, 108, 111}));
  Ids middle(2);
  source.read(3, middle);
  EXPECT_EQ(middle, (Ids{108, 108}));
  EXPECT_THROW(source.read(5, middle), InternalError);
  EXPECT_THROW(source.read(-1, middle), InternalError);
}

TEST(TokenSource, BadTextsAreNamed) {
  const TemporaryFolder folder;
  const auto open = [&](const std::string& path, int64_t vocabulary = 256) {
    return [=] { TokenSource::from_text(path, {.vocabulary = vocabulary}); };
  };
  const std::string latin1 = folder.write("latin1", "0123456789 caf\xE9 au lait");
  expect_input_error(open(latin1), {latin1 + ": byte 14: not UTF-8"});
  expect_input_error(open(folder.at("none")), {folder.at("none"), "No such file"});
  expect_input_error(open(folder.write("empty", "")), {folder.at("empty"), "empty"});
  expect_input_error(open(folder.at("")), {"not a regular file"});
  expect_input_error(open(folder.write("small", "abc~"), 123),
                     {folder.at("small") + ": token 3 (byte 3): id 126 is beyond the vocabulary of "
                                           "123"});
  EXPECT_EQ(TokenSource::from_text(latin1, {.vocabulary = 256, .verify = false}).size(), 23);
}

TEST(TokenSource, RawAndLlmcFilesInSortedOrder) {
  const TemporaryFolder folder;
  folder.write("part-2.bin", raw({7, 8, 65535}));
  folder.write("part-10.bin", llmc_file(20240520, 1, 4, raw({1, 2, 3, 4})));
  folder.write("other.txt", "x");
  const auto source = open_files({folder.at("part-*.bin")});
  EXPECT_EQ(all_of(source), (Ids{1, 2, 3, 4, 7, 8, 65535}));
  for (int64_t first = 0; first <= 7; ++first) {  // every range, across the seam as well
    for (int64_t count = 0; first + count <= 7; ++count) {
      Ids part(static_cast<size_t>(count));
      source.read(first, part);
      const Ids all = all_of(source);
      EXPECT_EQ(part, Ids(all.begin() + first, all.begin() + first + count));
    }
  }
  EXPECT_EQ(all_of(open_files({folder.at("part-2.bin"), folder.at("part-1*")})),
            (Ids{7, 8, 65535, 1, 2, 3, 4}));
}

TEST(TokenSource, BadTokenFilesAreNamed) {
  const TemporaryFolder folder;
  const auto expect_refused = [&](const std::string& name, const std::string& contents,
                                  const std::string& reason) {
    folder.write(name, contents);
    expect_input_error([&] { open_files({folder.at(name)}); }, {folder.at(name), reason, " ("});
  };
  expect_refused("odd", raw({1, 2}) + "x", "5 bytes");
  expect_refused("empty", "", "empty");
  expect_refused("short", llmc_file(20240520, 1, 5, raw({1, 2})),
                 "says 5 tokens, the file holds 2");
  expect_refused("long", llmc_file(20240520, 1, 1, raw({1, 2})), "says 1 tokens, the file holds 2");
  expect_refused("version", llmc_file(20240520, 2, 2, raw({1, 2})), "version 2");
  expect_refused("wide", llmc_file(20240801, 7, 1, raw({1, 2, 3})), "6 bytes are no whole number");
  expect_refused("wide count", llmc_file(20240801, 7, 2, raw({1, 2})),
                 "says 2 tokens, the file holds 1");
  expect_refused("wide version", llmc_file(20240801, 1, 1, raw({1, 2})), "version 7 is supported");
  expect_refused("header", llmc_file(20240520, 1, 0, ""), "empty");
  expect_input_error([&] { open_files({folder.at("*.none")}); }, {"*.none", "no file matches"});
}

TEST(TokenSource, AnIdBeyondTheVocabularyIsFoundWhereverItIs) {
  const TemporaryFolder folder;
  for (size_t at : {size_t{0}, size_t{4095}, size_t{4096}, size_t{9999}}) {
    std::vector<uint16_t> ids(10000, 50256);
    ids[at] = 50257;
    folder.write("raw", raw(ids));
    folder.write("llmc", llmc_file(20240520, 1, 10000, raw(ids)));
    const std::string token = ": token " + std::to_string(at);
    expect_input_error([&] { open_files({folder.at("raw")}, 50257); },
                       {folder.at("raw") + token + " (byte " + std::to_string(2 * at) + ")",
                        "id 50257 is beyond the vocabulary of 50257"});
    expect_input_error([&] { open_files({folder.at("llmc")}, 50257); },
                       {folder.at("llmc") + token + " (byte " + std::to_string(1024 + 2 * at)});
    EXPECT_EQ(open_files({folder.at("raw")}, 50258).size(), 10000);
  }
}

TEST(TokenSource, WideFilesHaveIdsOf32Bits) {
  const TemporaryFolder folder;
  const std::vector<int32_t> ids{1, 128255, 65536};
  folder.write("wide.bin", llmc_file(20240801, 7, 3, bytes_of(ids)));
  EXPECT_EQ(all_of(open_files({folder.at("wide.bin")}, 128256)), ids);
  expect_input_error([&] { open_files({folder.at("wide.bin")}, 128255); },
                     {folder.at("wide.bin") + ": token 1 (byte 1028)", "id 128255"});
}

TEST(TokenSource, EncodedTextsAreTheTokenizersTokens) {
  const TemporaryFolder folder;
  const auto tokenizer = make_tokenizer(test::golden_path("gpt2"));
  const std::vector<std::string> texts{folder.write("a", "In the beginning"),
                                       folder.write("b", " God created")};
  Ids expected = tokenizer->encode("In the beginning");
  const Ids second = tokenizer->encode(" God created");
  int64_t last = 0;
  const EncodeOptions options{
      .separates = false, .folder = folder.at(""), .progress = [&](int64_t done, int64_t all) {
        EXPECT_EQ(all, 28);
        last = done;
      }};
  Ids joined = expected;
  joined.insert(joined.end(), second.begin(), second.end());
  EXPECT_EQ(all_of(TokenSource::from_encoded(encode_texts(texts, *tokenizer, options))), joined);
  EXPECT_EQ(last, 28);
  expected.push_back(*tokenizer->separator());
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(
      all_of(TokenSource::from_encoded(encode_texts(texts, *tokenizer, {.folder = folder.at("")}))),
      expected);
  EXPECT_EQ(folder.files(), (std::vector<std::string>{"a", "b"})) << "the temporary file is left";
}

TEST(TokenSource, EncodedTextsAreCheckedAndTheDiskAsWell) {
  const TemporaryFolder folder;
  const auto tokenizer = make_tokenizer(test::golden_path("gpt2"));
  const auto encode = [&](const std::string& text, const std::string& temporary) {
    const std::vector<std::string> texts{text};
    TokenSource::from_encoded(encode_texts(texts, *tokenizer, {.folder = temporary}));
  };
  const std::string latin1 = folder.write("latin1", "caf\xE9 au lait");
  expect_input_error([&] { encode(latin1, ""); }, {latin1 + ": byte 3: not UTF-8", "iconv"});
  expect_input_error([&] { encode(folder.write("none", ""), ""); }, {"empty", "name a text"});
  try {
    encode(folder.write("good", "text"), folder.at("no/such/folder"));
    FAIL() << "no folder, no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("TMPDIR"), std::string::npos) << error.what();
  }
}

TEST(TokenSource, FingerprintTellsFilesApart) {
  const TemporaryFolder folder;
  const auto fingerprint = [&](std::string text) {
    return TokenSource::from_text(folder.write("t", text), {.vocabulary = 256}).fingerprint();
  };
  const std::string text(10000, 'a');
  std::string other = text;
  other.back() = 'b';
  EXPECT_EQ(fingerprint(text), fingerprint(text));
  EXPECT_NE(fingerprint(text), fingerprint(other));
  EXPECT_NE(fingerprint(text), fingerprint(text + "a"));
  EXPECT_NE(fingerprint("a"), fingerprint("b"));
}

TEST(Dataset, FractionIsCutOffTheEndAsNanoGptDoes) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1003; ++i) text += static_cast<char>('a' + i % 26);
  const Dataset data = open_dataset({.text = folder.write("t", text),
                                     .token_files = {},
                                     .validation_token_files = {},
                                     .validation_fraction = 0.1,
                                     .seq_length = 64,
                                     .vocabulary = 256});
  EXPECT_EQ(data.training.size, 902);  // int(1003 * 0.9)
  EXPECT_EQ(data.validation.size, 101);
  Ids first(1);
  data.validation.read(0, first);
  EXPECT_EQ(first[0], text[902]);
  EXPECT_THROW(data.training.read(902, first), InternalError);
}

TEST(Dataset, TheFractionIsOfTheTokens) {
  const TemporaryFolder folder;
  DatasetSpec spec;
  spec.text = folder.write("t", contents_of(test::golden_path("long.txt")));
  spec.seq_length = 64;
  spec.vocabulary = 1457;
  spec.tokenizer = test::golden_path("gpt2");
  const Dataset data = open_dataset(spec);
  EXPECT_EQ(data.training.size, 23044);  // int(25605 * 0.9), of golden.json's tokens
  EXPECT_EQ(data.validation.size, 2561);
  spec.tokenizer = "bytes";
  EXPECT_NE(open_dataset(spec).fingerprint, data.fingerprint);
  EXPECT_EQ(open_dataset(spec).training.size, 28689);  // int(31877 * 0.9)
}

TEST(Dataset, AVocabularyMayExceedTheTokenizersAndMayNotBeSmaller) {
  const TemporaryFolder folder;
  DatasetSpec spec;
  spec.text = folder.write("t", contents_of(test::golden_path("long.txt")));
  spec.seq_length = 8;
  for (const char* name : {"gpt2", "unigram.model"}) {
    spec.tokenizer = test::golden_path(name);
    const int64_t tokens = make_tokenizer(spec.tokenizer)->vocabulary();
    spec.vocabulary = tokens - 1;
    expect_input_error(
        [&] { open_dataset(spec); },
        {"model.vocab_size", spec.tokenizer, "allowed: at least " + std::to_string(tokens)});
    for (const int64_t enough : {tokens, tokens + 1000}) {
      spec.vocabulary = enough;
      EXPECT_NO_THROW(open_dataset(spec));
    }
  }
}

TEST(Dataset, TheTokenizerOfTokenFilesMustBeThere) {
  const TemporaryFolder folder;
  DatasetSpec spec;
  spec.token_files = {folder.write("train.bin", raw({1, 2, 3, 4, 5, 6}))};
  spec.validation_fraction = 0.0;
  spec.seq_length = 2;
  spec.vocabulary = 2000;
  spec.tokenizer = test::golden_path("gpt2");
  EXPECT_EQ(open_dataset(spec).training.size, 6);
  spec.vocabulary = 1000;
  expect_input_error([&] { open_dataset(spec); }, {"model.vocab_size", "at least 1457"});
  spec.tokenizer = folder.at("none");
  expect_input_error([&] { open_dataset(spec); }, {folder.at("none"), "no such tokenizer"});
}

TEST(Dataset, SeparateValidationFilesAndNoValidation) {
  const TemporaryFolder folder;
  DatasetSpec spec;
  spec.token_files = {folder.write("train.bin", raw({1, 2, 3, 4, 5, 6}))};
  spec.validation_token_files = {folder.write("val.bin", raw({7, 8, 9}))};
  spec.seq_length = 2;
  spec.vocabulary = 10;
  const Dataset data = open_dataset(spec);
  EXPECT_EQ(data.training.size, 6);
  EXPECT_EQ(all_of(*data.validation.source), (Ids{7, 8, 9}));
  spec.validation_token_files.clear();
  spec.validation_fraction = 0.0;
  EXPECT_EQ(open_dataset(spec).validation.size, 0);
  EXPECT_NE(open_dataset(spec).fingerprint, data.fingerprint);
}

TEST(Dataset, PartsTooShortForOneWindow) {
  const TemporaryFolder folder;
  DatasetSpec spec;
  spec.text = folder.write("t", std::string(100, 'x'));
  spec.vocabulary = 256;
  spec.seq_length = 90;
  const auto open = [&] { open_dataset(spec); };
  expect_input_error(open, {spec.text, "training part has 90 tokens", "needs 91", "seq_length"});
  spec.seq_length = 10;
  expect_input_error(open, {spec.text, "validation part has 10 tokens", "validation_fraction"});
  spec.seq_length = 9;
  EXPECT_EQ(open_dataset(spec).validation.size, 10);
}

}  // namespace
}  // namespace memwall
