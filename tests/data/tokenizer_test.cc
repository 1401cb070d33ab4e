// Tokens equal to the reference implementations', there and back.
#include "runtime/data/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/byte_level_bpe.h"
#include "runtime/data/sentence_piece.h"
#include "runtime/data/utf8.h"
#include "tests/data/temporary_folder.h"
#include "tests/data/tokenizer_fixture.h"

namespace memwall {
namespace {

using test::golden_path, test::golden_texts, test::GoldenText;
using Ids = std::vector<int32_t>;

struct Named {
  const char* name;  // in golden.json
  const char* path;
};

class Golden : public testing::TestWithParam<Named> {
 protected:
  const std::unique_ptr<Tokenizer> tokenizer_ = make_tokenizer(golden_path(GetParam().path));
  const std::string long_text_ = contents_of(golden_path("long.txt"));
};

TEST_P(Golden, HardTextsHaveTheReferencesIds) {
  const auto texts = golden_texts(GetParam().name);
  ASSERT_GE(texts.size(), 40u);
  for (const GoldenText& golden : texts) {
    EXPECT_EQ(tokenizer_->encode(golden.text), golden.ids) << golden.text;
    // Once more: what was worked out before is remembered.
    EXPECT_EQ(tokenizer_->encode(golden.text), golden.ids) << golden.text;
  }
}

TEST_P(Golden, DecodesAsTheReferenceDoes) {
  for (const GoldenText& golden : golden_texts(GetParam().name)) {
    EXPECT_EQ(tokenizer_->decode(golden.ids, true), golden.decoded);
  }
}

// `generate` decodes the first tokens together and the others one by one.
TEST_P(Golden, TokensThatFollowDecodeOneByOne) {
  int decoded = 0;
  for (const GoldenText& golden : golden_texts(GetParam().name)) {
    if (golden.ids.empty()) continue;
    // SentencePiece's own decoder replaces a character that stops at the first token.
    const size_t whole = golden.ids.size() < 2 ? 1 : golden.ids.size() / 2;
    std::string text = tokenizer_->decode(std::span(golden.ids).first(whole), true);
    if (find_invalid_utf8(text) || text.ends_with("\xEF\xBF\xBD")) continue;
    for (size_t i = whole; i < golden.ids.size(); ++i) {
      text += tokenizer_->decode(std::span(golden.ids).subspan(i, 1), false);
    }
    EXPECT_EQ(text, golden.decoded);
    ++decoded;
  }
  EXPECT_GE(decoded, 30);
}

TEST_P(Golden, ALongTextHasTheReferencesIds) {
  const auto golden = test::golden_json()["long"][GetParam().name];
  const Ids ids = tokenizer_->encode(long_text_);
  EXPECT_EQ(ids.size(), golden["tokens"]);
  EXPECT_EQ(test::fnv1a(ids), golden["hash"]);
}

TEST_P(Golden, PiecesCoverTheTextInOrder) {
  size_t done = 0;
  Ids ids;
  tokenizer_->encode(long_text_, [&](std::span<const int32_t> part, size_t bytes) {
    EXPECT_GE(bytes, done);
    done = bytes;
    ids.insert(ids.end(), part.begin(), part.end());
  });
  EXPECT_EQ(done, long_text_.size());
  EXPECT_EQ(ids, tokenizer_->encode(long_text_));
}

TEST_P(Golden, AnIdThatIsNoTokenIsReplaced) {
  const auto beyond = static_cast<int32_t>(tokenizer_->vocabulary());
  for (const bool begins : {true, false}) {
    EXPECT_EQ(tokenizer_->decode(Ids{beyond, -1}, begins), "\xEF\xBF\xBD\xEF\xBF\xBD");
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         testing::Values(Named{"gpt2", "gpt2"}, Named{"unigram", "unigram.model"},
                                         Named{"bpe", "bpe.model"}),
                         [](const auto& param) { return std::string(param.param.name); });

// A window that is smaller than a word has to grow; none may show in the tokens.
TEST(SentencePiece, TokensDoNotDependOnTheWindow) {
  const std::string text = contents_of(golden_path("long.txt"));
  for (const char* model : {"unigram.model", "bpe.model"}) {
    const Ids whole = SentencePiece(golden_path(model), size_t{1} << 30).encode(text);
    for (const size_t window : {1, 7, 100, 1000, 4099}) {
      EXPECT_EQ(SentencePiece(golden_path(model), window).encode(text), whole)
          << model << " in windows of " << window;
    }
    for (const GoldenText& golden :
         golden_texts(std::string(model).substr(0, 3) == "uni" ? "unigram" : "bpe")) {
      EXPECT_EQ(SentencePiece(golden_path(model), 5).encode(golden.text), golden.ids)
          << golden.text;
    }
  }
}

TEST(SentencePiece, ReplacesWhatIsNoUtf8) {
  const SentencePiece tokenizer(golden_path("unigram.model"));
  EXPECT_EQ(tokenizer.encode("caf\xE9 au"), tokenizer.encode("caf\xEF\xBF\xBD au"));
}

TEST(Tokenizer, SeparatorsAreTheModels) {
  EXPECT_EQ(make_tokenizer(golden_path("gpt2"))->separator(), 1456);  // the last of vocab.json
  EXPECT_EQ(make_tokenizer(golden_path("unigram.model"))->separator(), 2);  // </s>
  EXPECT_EQ(make_tokenizer("bytes")->separator(), std::nullopt);
}

TEST(Tokenizer, FingerprintsTellTokenizersApart) {
  const auto fingerprint = [](const char* name) {
    return make_tokenizer(golden_path(name))->fingerprint();
  };
  EXPECT_EQ(fingerprint("gpt2"), fingerprint("gpt2"));
  EXPECT_NE(fingerprint("gpt2"), fingerprint("bpe.model"));
  EXPECT_NE(fingerprint("unigram.model"), fingerprint("bpe.model"));
}

TEST(Tokenizer, BytesThereAndBack) {
  const auto tokenizer = make_tokenizer("bytes");
  EXPECT_EQ(tokenizer->vocabulary(), 256);
  const std::string text = "a\xC3\xBF\n";
  EXPECT_EQ(tokenizer->encode(text), (Ids{97, 195, 191, 10}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), true), text);
  EXPECT_EQ(tokenizer->encode(std::string(10000, 'x')), Ids(10000, 'x'));
  EXPECT_EQ(tokenizer->decode(Ids{65, 256, -1, 66}, false),
            "A\xEF\xBF\xBD\xEF\xBF\xBD"
            "B");
}

// Merges that the reference, encoder.py's bpe(), makes by hand: every occurrence of the pair of
// least rank, left to right, and only then pairs that this made, however low their rank.
class SmallMerges : public testing::Test {
 protected:
  Ids encode(const std::string& merges, const std::vector<std::string>& results,
             const std::string& text) {
    nlohmann::json vocabulary = nlohmann::json::parse(contents_of(golden_path("gpt2/vocab.json")));
    std::erase_if(vocabulary.get_ref<nlohmann::json::object_t&>(),
                  [](const auto& entry) { return entry.second >= 256; });
    for (size_t i = 0; i < results.size(); ++i) vocabulary[results[i]] = 256 + i;
    const TemporaryFolder folder;
    folder.write("vocab.json", vocabulary.dump());
    folder.write("merges.txt", merges);
    const ByteLevelBpe tokenizer(folder.at(""));
    Ids ids = tokenizer.encode(text);
    for (int32_t& id : ids) id = id >= 256 ? id - 256 : -1;  // a place of `results`
    return ids;
  }
};

TEST_F(SmallMerges, OverlappingPairsGoLeftToRight) {
  EXPECT_EQ(encode("a a\n", {"aa"}, "aaaaa"), (Ids{0, 0, -1}));
  EXPECT_EQ(encode("a a\naa a\n", {"aa", "aaa"}, "aaa"), (Ids{1}));
}

TEST_F(SmallMerges, TheLeastRankGoesFirst) {
  EXPECT_EQ(encode("b c\na b\n", {"bc", "ab"}, "abc"), (Ids{-1, 0}));
  EXPECT_EQ(encode("a b\nb c\n", {"ab", "bc"}, "abc"), (Ids{0, -1}));
}

TEST_F(SmallMerges, APairMadeByAMergeWaitsForTheMergesOfItsRank) {
  // Rank 1 joins both "ab" before rank 0, "ab a", has its turn.
  EXPECT_EQ(encode("ab a\na b\n", {"aba", "ab"}, "abab"), (Ids{1, 1}));
  EXPECT_EQ(encode("ab a\na b\n", {"aba", "ab"}, "abaab"), (Ids{0, 1}));
}

TEST(ByteLevelBpe, AWordOfAMillionLettersTakesNoLongTime) {
  const ByteLevelBpe tokenizer(golden_path("gpt2"));
  std::string word;
  for (int i = 0; i < 100000; ++i) word += "thegodofab";
  const Ids ids = tokenizer.encode(word);
  EXPECT_EQ(tokenizer.decode(ids, true), word);
  EXPECT_EQ(ids.size() % 100000, 0u);  // the seams are alike
}

TEST(ByteLevelBpe, EveryTwoBytesComeBackOrAreReplaced) {
  const ByteLevelBpe tokenizer(golden_path("gpt2"));
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; b += 3) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), true), replace_invalid_utf8(text));
    }
  }
}

}  // namespace
}  // namespace memwall
