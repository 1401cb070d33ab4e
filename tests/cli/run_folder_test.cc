#include "runtime/cli/run_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "comm/agree.h"
#include "runtime/base/error.h"
#include "tests/support/mpi_world.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using test::world;

// A working folder of this test, one for all ranks; rank 0 makes it and removes it.
class RunFolder : public testing::Test {
 protected:
  void SetUp() override {
    const std::string name = "memwall-run-folder-" + std::to_string(world().size());
    root_ = agree_on_folder(world(), fs::path(testing::TempDir()) / name);
    if (world().rank() == 0) fs::create_directories(root_);
    world().barrier();
  }
  void TearDown() override {
    world().barrier();
    if (world().rank() == 0) fs::remove_all(root_);
    world().barrier();
  }
  fs::path root_;
};

TEST_F(RunFolder, IsRankZerosChoiceEverywhere) {
  const std::string mine = (root_ / std::to_string(world().rank())).string();
  EXPECT_EQ(agree_on_folder(world(), mine), (root_ / "0").string());
}

TEST_F(RunFolder, IsMadeAndLeftEmpty) {
  make_run_folder(world(), root_ / "a/b");
  world().barrier();
  EXPECT_TRUE(fs::is_empty(root_ / "a/b"));
}

TEST_F(RunFolder, MustBeSeenByAllRanks) {
  if (world().size() == 1) GTEST_SKIP() << "for several ranks";
  const fs::path elsewhere = root_ / "elsewhere";
  if (world().rank() == 0) fs::create_directories(elsewhere);
  world().barrier();
  try {
    make_run_folder(world(), world().rank() == 1 ? elsewhere : root_ / "a");
    FAIL() << "rank 1 looks into another folder";
  } catch (const SharedError& error) {
    EXPECT_NE(std::string(error.what()).find("rank 1"), std::string::npos) << error.what();
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
  }
}

TEST_F(RunFolder, ThatCannotBeMadeIsAnErrorOfAllRanks) {
  EXPECT_THROW(make_run_folder(world(), "/proc/no-such-folder"), SharedError);
}

TEST_F(RunFolder, IsNamedByRunAndTime) {
  const std::string name = default_run_folder("tiny", 1700000000);
  EXPECT_TRUE(name.starts_with("runs/tiny-2023111")) << name;
  EXPECT_EQ(name.size(), std::string("runs/tiny-YYYYmmdd-HHMMSS").size());
}

TEST_F(RunFolder, LatestPointsToTheNewestInRuns) {
  if (world().rank() != 0) return;
  for (const char* run : {"one", "two"}) {
    fs::create_directories(root_ / "runs" / run);
    link_latest(root_ / "runs" / run);
    EXPECT_EQ(fs::canonical(root_ / "runs/latest"), root_ / "runs" / run);
  }
  fs::create_directories(root_ / "elsewhere/one");
  link_latest(root_ / "elsewhere/one");
  EXPECT_FALSE(fs::exists(root_ / "elsewhere/latest"));
}

TEST_F(RunFolder, IsFoundThroughLinksAndRefusedWhereThereIsNone) {
  if (world().rank() != 0) return;
  const fs::path run = root_ / "runs/one";
  fs::create_directories(run);
  link_latest(run);
  EXPECT_THROW(find_run(root_ / "runs/latest"), InputError);
  std::ofstream(run / kConfigFile) << "\n";
  EXPECT_EQ(find_run(root_ / "runs/latest"), run.string());
  EXPECT_THROW(find_run(root_ / "nowhere"), InputError);
  EXPECT_THROW(find_checkpoint(run), InputError);
}

}  // namespace
}  // namespace memwall
