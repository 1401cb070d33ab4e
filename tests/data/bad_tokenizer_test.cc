// Damaged tokenizers: each is one error that says what, where and what to do.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/data/tokenizer.h"
#include "tests/data/temporary_folder.h"
#include "tests/data/tokenizer_fixture.h"

namespace memwall {
namespace {

using test::golden_path;

// A copy of the small GPT-2 folder, to be damaged.
class BadFolder : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"vocab.json", "merges.txt"}) {
      folder_.write(name, contents_of(golden_path(std::string("gpt2/") + name)));
    }
  }
  nlohmann::json vocabulary() const {
    return nlohmann::json::parse(contents_of(folder_.at("vocab.json")));
  }
  void expect_refused(std::initializer_list<std::string> parts) {
    expect_input_error([&] { make_tokenizer(path()); }, parts);
  }
  std::string path() const { return folder_.at("").substr(0, folder_.at("").size() - 1); }

  TemporaryFolder folder_;
};

TEST_F(BadFolder, IsGoodToBeginWith) {
  EXPECT_EQ(make_tokenizer(path())->vocabulary(), 1457);
}

TEST_F(BadFolder, LacksAFile) {
  for (const char* name : {"vocab.json", "merges.txt"}) {
    const std::string contents = contents_of(folder_.at(name));
    std::filesystem::remove(folder_.at(name));
    expect_refused({path() + ": holds no " + name, "vocab.json and merges.txt"});
    folder_.write(name, contents);
  }
}

TEST_F(BadFolder, VocabularyIsNoJson) {
  folder_.write("vocab.json", "{\"a\": 0, \"b\" 1}");
  expect_refused({folder_.at("vocab.json") + ": byte 14: not JSON", "bring the file back"});
  folder_.write("vocab.json", "[1, 2]");
  expect_refused({folder_.at("vocab.json"), "not a JSON object"});
  folder_.write("vocab.json", "{}");
  expect_refused({folder_.at("vocab.json"), "holds no token"});
  folder_.write("vocab.json", contents_of(golden_path("gpt2/vocab.json")).substr(0, 5000));
  expect_refused({folder_.at("vocab.json"), "not JSON"});
}

TEST_F(BadFolder, VocabularyHasAnImpossibleId) {
  for (const char* id : {"-1", "1.5", "\"7\"", "16777216", "99999999999", "null"}) {
    auto contents = vocabulary();
    contents["the"] = nlohmann::json::parse(id);
    folder_.write("vocab.json", contents.dump());
    expect_refused({folder_.at("vocab.json"), "the id of 'the' is " + std::string(id), "16777215"});
  }
}

TEST_F(BadFolder, TwoTokensHaveOneId) {
  auto contents = vocabulary();
  contents["the"] = 300;
  folder_.write("vocab.json", contents.dump());
  expect_refused({folder_.at("vocab.json"), "'the'", "have the same id 300"});
}

TEST_F(BadFolder, AByteHasNoToken) {
  auto contents = vocabulary();
  contents.erase("\xC4\xA0");  // U+0120, a space
  folder_.write("vocab.json", contents.dump());
  expect_refused({folder_.at("vocab.json"), "no token for byte 0x20", "256 bytes"});
}

TEST_F(BadFolder, AMergeContradictsTheVocabulary) {
  const std::string file = folder_.at("merges.txt");
  const auto expect_line = [&](const std::string& merges, int line, const std::string& reason) {
    folder_.write("merges.txt", merges);
    expect_refused({file + ": line " + std::to_string(line) + ": " + reason, "merges.txt"});
  };
  expect_line("#version: 0.2\nt h\nxyzzy e\n", 3, "'xyzzy' is no token of vocab.json");
  expect_line("t h\nth xyzzy\n", 2, "'xyzzy' is no token of vocab.json");
  expect_line("#version: 0.2\nq q\n", 2, "'qq' is no token of vocab.json");
  auto contents = vocabulary();
  contents["xyzzy"] = 1457;
  folder_.write("vocab.json", contents.dump());
  expect_line("#version: 0.2\nxyz zy\n", 2, "'xyz' is no token of vocab.json");
  expect_line("#version: 0.2\nx yzzy\n", 2, "'yzzy' is no token of vocab.json");
  expect_line("t h\nh e\nt h\n", 3, "'t h' stands on an earlier line, too");
}

TEST_F(BadFolder, ALineIsNotTwoTokens) {
  for (const char* line : {"th", "t h e", "t ", " h", "t  h"}) {
    folder_.write("merges.txt", std::string("#version: 0.2\n") + line + "\nt h\n");
    expect_refused({folder_.at("merges.txt") + ": line 2: '" + line + "' is not two tokens"});
  }
  folder_.write("merges.txt", "t h\n\nh e\n");
  expect_refused({folder_.at("merges.txt") + ": line 2: '' is not two tokens"});
}

TEST_F(BadFolder, LinesMayEndAsOnWindows) {
  folder_.write("merges.txt", "#version: 0.2\r\nt h\r\n");
  EXPECT_EQ(make_tokenizer(path())->encode("th").size(), 1u);
}

TEST(BadTokenizer, NothingIsThere) {
  expect_input_error([] { make_tokenizer("/no/such/tokenizer"); },
                     {"/no/such/tokenizer: no such tokenizer", "\"bytes\"", "SentencePiece",
                      "vocab.json and merges.txt"});
}

TEST(BadTokenizer, AFileThatIsNoModel) {
  const TemporaryFolder folder;
  for (const char* contents : {"", "hello\n", "{\"a\": 1}"}) {
    const std::string path = folder.write("x.model", contents);
    expect_input_error([&] { make_tokenizer(path); },
                       {path + ": no SentencePiece model, or a damaged one", "name a .model file"});
  }
}

// Cut off anywhere, a model is refused, also where what is left is a well-formed message.
TEST(BadTokenizer, ATruncatedModel) {
  const TemporaryFolder folder;
  const std::string whole = contents_of(golden_path("bpe.model"));
  for (size_t size = 0; size < whole.size() - 10; size += 13) {
    const std::string path = folder.write("x.model", whole.substr(0, size));
    expect_input_error([&] { make_tokenizer(path); },
                       {path + ": no SentencePiece model, or a damaged one"});
  }
}

}  // namespace
}  // namespace memwall
