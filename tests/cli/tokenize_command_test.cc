// Tokenizers as a user meets them: `memwall tokenize`, and training on what it writes.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/memwall_process.h"
#include "tests/data/tokenizer_fixture.h"

namespace memwall::test {
namespace {

using nlohmann::json;

class Tokenize : public testing::Test {
 protected:
  Tokenize() : work_("tokenize") { fs::copy_file(golden_path("long.txt"), work_.path("long.txt")); }

  Outcome tokenize(std::vector<std::string> words, const std::string& tokenizer = "gpt2") const {
    const std::string path = tokenizer == "bytes" ? tokenizer : golden_path(tokenizer);
    words.insert(words.begin(), {"tokenize", "--tokenizer", path, "--output", "out"});
    return work_.memwall(words);
  }
  // The ids of a file with 16 bits each.
  std::vector<int32_t> ids(const std::string& name) const {
    const std::string contents = file_text(work_.path("out/" + name)).substr(1024);
    std::vector<uint16_t> narrow(contents.size() / 2);
    std::memcpy(narrow.data(), contents.data(), contents.size());
    return {narrow.begin(), narrow.end()};
  }
  std::vector<double> losses(const std::string& run) const {
    std::vector<double> out;
    std::istringstream lines(file_text(work_.path(run + "/metrics/rank-00000.jsonl")));
    for (std::string line; std::getline(lines, line);) out.push_back(json::parse(line)["loss"]);
    return out;
  }
  Outcome train(const std::string& run, std::vector<std::string> settings) const {
    std::vector<std::string> words{"train", work_.config().string(), "--run-dir", run};
    for (const std::string& setting : settings) {
      words.insert(words.end(), {"--set", setting});
    }
    return work_.memwall(words);
  }
  Workplace work_;
};

TEST_F(Tokenize, WritesTheReferencesTokens) {
  const json golden = golden_json()["long"];
  for (const auto& [name, path] : {std::pair("gpt2", "gpt2"), std::pair("unigram", "unigram.model"),
                                   std::pair("bpe", "bpe.model")}) {
    const Outcome outcome = tokenize({"long.txt", "--json", "--overwrite"}, path);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json said = json::parse(outcome.out);
    EXPECT_EQ(said["tokens"], golden[name]["tokens"]);
    EXPECT_EQ(said["text_bytes"], golden["text"]["bytes"]);
    EXPECT_EQ(said["files"], json({"out/train_00000.bin"}));
    EXPECT_EQ(fnv1a(ids("train_00000.bin")), golden[name]["hash"]);
  }
}

TEST_F(Tokenize, CutsOffTheValidationPartAndNumbersTheFiles) {
  const Outcome outcome = tokenize(
      {"long.txt", "--validation-fraction", "0.1", "--tokens-per-file", "20000", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json said = json::parse(outcome.out);
  EXPECT_EQ(said["training_tokens"], 23044);  // int(25605 * 0.9)
  EXPECT_EQ(said["validation_tokens"], 2561);
  EXPECT_EQ(said["files"],
            json({"out/train_00000.bin", "out/train_00001.bin", "out/val_00000.bin"}));
  std::vector<int32_t> all = ids("train_00000.bin");
  EXPECT_EQ(all.size(), 20000u);
  for (const char* name : {"train_00001.bin", "val_00000.bin"}) {
    const auto more = ids(name);
    all.insert(all.end(), more.begin(), more.end());
  }
  EXPECT_EQ(fnv1a(all), golden_json()["long"]["gpt2"]["hash"]);
}

TEST_F(Tokenize, SeparatesDocuments) {
  write_text(work_.path("a"), "b");
  const int32_t letter = 65;  // GPT-2's place of "b": the 66th of the bytes that print
  ASSERT_EQ(tokenize({"a", "a", "a"}).exit_code, 0);
  const int32_t end_of_text = 1456;
  EXPECT_EQ(ids("train_00000.bin"),
            (std::vector<int32_t>{letter, end_of_text, letter, end_of_text, letter}));
  ASSERT_EQ(tokenize({"a", "a", "--no-separator", "--overwrite"}).exit_code, 0);
  EXPECT_EQ(ids("train_00000.bin"), (std::vector<int32_t>{letter, letter}));
  ASSERT_EQ(tokenize({"a", "a", "--overwrite"}, "bytes").exit_code, 0);
  EXPECT_EQ(ids("train_00000.bin"), (std::vector<int32_t>{'b', 'b'})) << "bytes have no separator";
}

TEST_F(Tokenize, SaysHowToTrainAndThatWorks) {
  const Outcome outcome = tokenize({"long.txt", "--validation-fraction", "0.1"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part :
       {"25,605 tokens of 31,877 bytes", "16-bit ids", "wrote out/val_00000.bin",
        "--set 'data.tokens=out/train_*.bin'", "--set 'data.validation_tokens=out/val_*.bin'"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << '\n' << outcome.out;
  }
  const std::string tokenizer = "data.tokenizer=" + golden_path("gpt2");
  const Outcome files = train("files", {"model.vocab_size=1500", "data.tokens=out/train_*.bin",
                                        "data.validation_tokens=out/val_*.bin", tokenizer});
  ASSERT_EQ(files.exit_code, 0) << files.err;
  const Outcome text = train("text", {"model.vocab_size=1500", "data.text=long.txt", tokenizer});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(losses("files").size(), 6u);
  EXPECT_EQ(losses("files"), losses("text")) << "the same tokens, from a text and from files";
  EXPECT_EQ(file_text(work_.path("files/validation.jsonl")),
            file_text(work_.path("text/validation.jsonl")));

  for (const char* run : {"files", "text"}) {
    const Outcome eval = work_.memwall({"eval", run, "--json"});
    ASSERT_EQ(eval.exit_code, 0) << eval.err;
    EXPECT_EQ(json::parse(eval.out)["tokens"], 2560);  // 160 windows of 16
    const Outcome said =
        work_.memwall({"generate", run, "--prompt", "naïve 日本", "--tokens", "5"});
    ASSERT_EQ(said.exit_code, 0) << said.err;
    EXPECT_TRUE(said.out.starts_with("naïve 日本")) << said.out;
    EXPECT_EQ(said.err.find("warning"), std::string::npos) << said.err;
  }
}

TEST_F(Tokenize, SentencePieceModelsTrainAndWrite) {
  const std::string tokenizer = "data.tokenizer=" + golden_path("unigram.model");
  const Outcome run = train("run", {"model.vocab_size=1400", "data.text=long.txt", tokenizer});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Outcome said = work_.memwall({"generate", "run", "--prompt", "In the  beginning\n😀"});
  ASSERT_EQ(said.exit_code, 0) << said.err;
  EXPECT_TRUE(said.out.starts_with("In the  beginning\n😀")) << said.out;
  EXPECT_EQ(work_.memwall({"export", "run", "folder"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(work_.path("folder/model.safetensors")));
}

struct Refused {
  std::vector<std::string> words;
  std::vector<std::string> parts;
};

TEST_F(Tokenize, RefusesWithOneErrorAndLeavesNothing) {
  write_text(work_.path("latin1"), "caf\xE9 au lait");
  write_text(work_.path("empty"), "");
  const Refused cases[] = {
      {{"long.txt", "latin1"}, {"latin1: byte 3: not UTF-8", "iconv"}},
      {{"empty"}, {"empty: the text is empty", "name a text"}},
      {{"none"}, {"none: cannot open: No such file", "look at the path"}},
      {{"long.txt", "--validation-fraction", "1"}, {"--validation-fraction"}},
      {{"long.txt", "--tokens-per-file", "0"}, {"--tokens-per-file"}},
      {{}, {"TEXT is required"}},
      {{"long.txt", "--tokenizer", "none"}, {"--tokenizer"}},  // given twice
  };
  for (const Refused& refused : cases) {
    const Outcome outcome = tokenize(refused.words);
    EXPECT_EQ(outcome.exit_code, 2);
    for (const std::string& part : refused.parts) {
      EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " is not in " << outcome.err;
    }
    EXPECT_FALSE(fs::exists(work_.path("out")));
  }
  const Outcome unknown = tokenize({"long.txt"}, "none");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_NE(unknown.err.find("no such tokenizer"), std::string::npos) << unknown.err;
  EXPECT_FALSE(fs::exists(work_.path("out")));
}

TEST_F(Tokenize, ReplacesFilesOnlyWhenAsked) {
  ASSERT_EQ(tokenize({"long.txt", "--tokens-per-file", "20000"}).exit_code, 0);
  write_text(work_.path("short"), "short");
  const Outcome again = tokenize({"short"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_NE(again.err.find("2 token files are there already"), std::string::npos) << again.err;
  EXPECT_NE(again.err.find("--overwrite"), std::string::npos) << again.err;
  EXPECT_EQ(ids("train_00000.bin").size(), 20000u);
  EXPECT_EQ(tokenize({"short", "--overwrite"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(work_.path("out/train_00001.bin"))) << "a file of the former tokens";
}

TEST_F(Tokenize, RunsInOneProcess) {
  const Outcome outcome =
      work_.memwall({"tokenize", "long.txt", "--tokenizer", "bytes", "--output", "out"}, 2);
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.err.find("runs in one process"), std::string::npos) << outcome.err;
  EXPECT_FALSE(fs::exists(work_.path("out")));
}

TEST_F(Tokenize, TrainingRefusesATokenizerThatDoesNotFit) {
  const std::string tokenizer = "data.tokenizer=" + golden_path("gpt2");
  const auto expect_refused = [&](std::vector<std::string> settings, const std::string& part) {
    const Outcome outcome = train("run", std::move(settings));
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    EXPECT_FALSE(fs::exists(work_.path("run")));
  };
  expect_refused({tokenizer}, "model.vocab_size: 256 is smaller than the 1457 tokens of");
  expect_refused({"data.tokenizer=none"}, "none: no such tokenizer");
  expect_refused({"data.tokenizer=long.txt"}, "no SentencePiece model");
  ASSERT_EQ(tokenize({"long.txt"}).exit_code, 0);
  expect_refused({"data.tokens=out/train_*.bin"}, "is beyond the vocabulary of 256");
  write_text(work_.path("out/train_00000.bin"), "odd");
  expect_refused({"data.tokens=out/train_*.bin"}, "3 bytes are no whole number of 16-bit tokens");
}

}  // namespace
}  // namespace memwall::test
