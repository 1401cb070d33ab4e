// Token files: written whole or not at all, and read back the same.
#include "runtime/data/token_files.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

using Names = std::vector<std::string>;

class TokenFiles : public testing::Test {
 protected:
  // Tokens 0, 1, 2, ... of `source`, as token files hold them.
  TokenRange range(int64_t first, int64_t size) {
    if (source_ == nullptr) {
      std::vector<uint16_t> ids(2000);
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint16_t>(i);
      const std::vector<std::string> paths{from_.write("ids", bytes_of(ids))};
      source_ = std::make_shared<TokenSource>(
          TokenSource::from_token_files(paths, {.vocabulary = 65536}));
    }
    return {source_, first, size};
  }
  std::vector<int32_t> read(const std::string& pattern) {
    const std::vector<std::string> patterns{to_.at(pattern)};
    const auto source = TokenSource::from_token_files(patterns, {.vocabulary = 65536});
    std::vector<int32_t> ids(static_cast<size_t>(source.size()));
    source.read(0, ids);
    return ids;
  }
  TokenFilesSpec spec(int64_t tokens_per_file) {
    return {.folder = to_.at(""), .tokens_per_file = tokens_per_file};
  }
  TemporaryFolder from_, to_;
  std::shared_ptr<const TokenSource> source_;
};

TEST_F(TokenFiles, AreCutAndNumbered) {
  const auto paths =
      write_token_files({{"train", range(0, 1001)}, {"val", range(1001, 5)}}, spec(500));
  EXPECT_EQ(to_.files(),
            (Names{"train_00000.bin", "train_00001.bin", "train_00002.bin", "val_00000.bin"}));
  EXPECT_EQ(paths.size(), 4u);
  const auto training = read("train_*.bin");
  ASSERT_EQ(training.size(), 1001u);
  for (int32_t i = 0; i < 1001; ++i) EXPECT_EQ(training[static_cast<size_t>(i)], i);
  EXPECT_EQ(read("train_00002.bin"), (std::vector<int32_t>{1000}));
  EXPECT_EQ(read("val_*.bin"), (std::vector<int32_t>{1001, 1002, 1003, 1004, 1005}));
}

TEST_F(TokenFiles, HaveTheBytesThatTheFormatSays) {
  write_token_files({{"train", range(258, 2)}}, spec(500));
  std::vector<int32_t> header(256, 0);
  header[0] = 20240520, header[1] = 1, header[2] = 2;
  EXPECT_EQ(contents_of(to_.at("train_00000.bin")),
            bytes_of(header) + std::string("\x02\x01\x03\x01", 4));
  TokenFilesSpec wide = spec(500);
  wide.narrow = false;
  write_token_files({{"wide", range(258, 2)}}, wide);
  header[0] = 20240801, header[1] = 7;
  EXPECT_EQ(contents_of(to_.at("wide_00000.bin")),
            bytes_of(header) + std::string("\x02\x01\0\0\x03\x01\0\0", 8));
  EXPECT_EQ(read("wide_*.bin"), (std::vector<int32_t>{258, 259}));
}

TEST_F(TokenFiles, AnEmptyPartHasNoFile) {
  write_token_files({{"train", range(0, 3)}, {"val", range(3, 0)}}, spec(2));
  EXPECT_EQ(to_.files(), (Names{"train_00000.bin", "train_00001.bin"}));
}

TEST_F(TokenFiles, OthersAreNotReplacedUnasked) {
  to_.write("train_00007.bin", "mine");
  to_.write("other.bin", "mine");
  expect_input_error(
      [&] {
        write_token_files({{"train", range(0, 3)}}, spec(2));
      },
      {to_.at("train_00007.bin"), "1 token file is there already", "--overwrite"});
  EXPECT_EQ(to_.files(), (Names{"other.bin", "train_00007.bin"}));
}

TEST_F(TokenFiles, OverwritingLeavesNoneOfTheFormerOnes) {
  to_.write("train_00007.bin", "old");
  to_.write("train_00000.bin", "old");
  to_.write("other.bin", "mine");
  TokenFilesSpec overwriting = spec(2);
  overwriting.overwrites = true;
  write_token_files({{"train", range(0, 3)}}, overwriting);
  EXPECT_EQ(to_.files(), (Names{"other.bin", "train_00000.bin", "train_00001.bin"}));
  EXPECT_EQ(read("train_*.bin"), (std::vector<int32_t>{0, 1, 2}));
}

TEST_F(TokenFiles, AFailureLeavesTheFolderAsItWas) {
  to_.write("train_00000.bin", "old");
  to_.write("keep", "");
  // The second file cannot be made: a folder stands where it would be written.
  std::filesystem::create_directory(to_.at("train_00001.bin.tmp"));
  TokenFilesSpec overwriting = spec(2);
  overwriting.overwrites = true;
  EXPECT_THROW(write_token_files({{"train", range(0, 3)}}, overwriting), Error);
  EXPECT_EQ(to_.files(), (Names{"keep", "train_00000.bin", "train_00001.bin.tmp"}));
  EXPECT_EQ(contents_of(to_.at("train_00000.bin")), "old");
}

TEST_F(TokenFiles, TheFolderIsMadeOrTheReasonIsNamed) {
  TokenFilesSpec inside = spec(2);
  inside.folder = to_.at("new/folder");
  write_token_files({{"train", range(0, 3)}}, inside);
  EXPECT_EQ(read("new/folder/train_*.bin").size(), 3u);
  inside.folder = to_.write("file", "") + "/folder";
  expect_input_error(
      [&] {
        write_token_files({{"train", range(0, 3)}}, inside);
      },
      {inside.folder, "cannot create the folder"});
}

}  // namespace
}  // namespace memwall
