// Event files against the bytes of TensorBoard's own writer
// (tests/golden/make_tensorboard_golden.py) and known checksums; what a resumed run leaves of them.
#include "runtime/train/event_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "configs/tensorboard.pb.h"
#include "runtime/base/error.h"
#include "tests/data/temporary_folder.h"
#include "tests/train/file_limit.h"

namespace memwall::test {
namespace {

namespace fs = std::filesystem;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string golden() {
  return contents_of(std::string(MEMWALL_SOURCE_DIR) + "/tests/golden/tensorboard/events.bin");
}

// The messages of a file, by the records' lengths alone.
std::vector<tensorboard::Event> events_of(const std::string& file) {
  std::vector<tensorboard::Event> out;
  for (size_t at = 0; at < file.size();) {
    uint64_t length = 0;
    std::memcpy(&length, file.data() + at, sizeof(length));
    EXPECT_TRUE(out.emplace_back().ParseFromString(file.substr(at + 12, length)));
    at += 16 + length;
  }
  return out;
}

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

// The steps of all events with a scalar, in the order of the files' names.
std::vector<int64_t> steps_in(const std::string& folder) {
  std::vector<int64_t> out;
  for (const fs::path& path : files_in(folder)) {
    for (const tensorboard::Event& event : events_of(contents_of(path))) {
      if (event.has_summary()) out.push_back(event.step());
    }
  }
  return out;
}

TEST(EventFile, WritesTheBytesOfTensorBoardsWriter) {
  std::string mine = golden().substr(0, 16 + 24);  // the version's event
  mine +=
      tf_record(scalar_event(1700000000.5, 1, {{"train/loss", 5.5}, {"train/learning_rate", 0.0}}));
  mine += tf_record(
      scalar_event(1700000001.25, 2, {{"train/loss", 0.1}, {"traffic/wire_bytes", 123456789.0}}));
  mine += tf_record(scalar_event(1700000002.0, 3, {{"train/loss", kInfinity}}));
  mine += tf_record(scalar_event(1700000003.0, 3, {{"validation/loss", 2.75}}));
  EXPECT_EQ(mine, golden());
}

// The check value of CRC-32C, 0xe3069283 (RFC 3720, B.4, and the catalogue of parametrised CRCs),
// masked by hand: ((crc >> 15) | (crc << 17)) + 0xa282ead8.
TEST(EventFile, ChecksumsAreMaskedCrc32c) {
  const std::string record = tf_record("123456789");
  uint32_t found = 0;
  std::memcpy(&found, record.data() + record.size() - 4, 4);
  const uint32_t crc = 0xe3069283u;
  EXPECT_EQ(found, ((crc >> 15) | (crc << 17)) + 0xa282ead8u);
}

TEST(EventFile, KeepsWholeRecordsUpToAStep) {
  const std::string file = golden();
  bool scalars = false;
  EXPECT_EQ(kept_event_bytes(file, 3, scalars), static_cast<int64_t>(file.size()));
  EXPECT_TRUE(scalars);
  EXPECT_EQ(kept_event_bytes(file, 0, scalars), 40);
  EXPECT_FALSE(scalars);
  const int64_t two = kept_event_bytes(file, 2, scalars);
  EXPECT_EQ(events_of(file.substr(0, static_cast<size_t>(two))).size(), 3u);
  // Torn, and damaged: a record counts only whole.
  for (int64_t cut = two - 1; cut > two - 40; --cut) {
    const int64_t kept = kept_event_bytes(file.substr(0, static_cast<size_t>(cut)), 2, scalars);
    EXPECT_EQ(events_of(file.substr(0, static_cast<size_t>(kept))).size(), 2u) << cut;
  }
  for (size_t at = 40; at < static_cast<size_t>(two); ++at) {
    std::string damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    EXPECT_LT(kept_event_bytes(damaged, 2, scalars), two) << at;
  }
  EXPECT_EQ(kept_event_bytes("", 5, scalars), 0);
}

TEST(EventFile, AResumedRunShowsNoStepTwice) {
  const TemporaryFolder folder;
  const std::string path = folder.at("tensorboard");
  {
    EventFile first(path, 0);
    for (int64_t step = 1; step <= 5; ++step) first.append(step, {{"train/loss", 1.0}});
  }
  EXPECT_EQ(steps_in(path), (std::vector<int64_t>{1, 2, 3, 4, 5}));
  {
    EventFile second(path, 3);
    second.append(4, {{"train/loss", 2.0}});
  }
  EXPECT_EQ(steps_in(path), (std::vector<int64_t>{1, 2, 3, 4}));
  ASSERT_EQ(files_in(path).size(), 2u);
  // Whoever has read step 4 and 5 of the first file is told to forget them.
  const auto events = events_of(contents_of(files_in(path)[1]));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].session_log().status(), tensorboard::SessionLog::START);
  EXPECT_EQ(events[1].step(), 4);
  // A run that starts over leaves nothing of the one before.
  { EventFile third(path, 0); }
  EXPECT_EQ(steps_in(path), std::vector<int64_t>{});
  EXPECT_EQ(files_in(path).size(), 1u);
}

TEST(EventFile, AFullDiskLeavesWholeRecordsOnly) {
  const TemporaryFolder folder;
  EventFile file(folder.at("tensorboard"), 0);
  const FileLimit limit(150);
  try {
    for (int64_t step = 1; step < 10; ++step) file.append(step, {{"train/loss", 1.0}});
    FAIL() << "the limit was passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kFailed);
    EXPECT_NE(std::string(error.what()).find("cannot write: "), std::string::npos);
  }
  EXPECT_EQ(events_of(contents_of(file.path())).size(), 3u);
}

TEST(EventFile, ScalarsComeFromTheMetricsLine) {
  const auto line = nlohmann::ordered_json::parse(R"({"step": 7, "loss": "inf", "grad_norm": 2.5,
      "lr": 0.25, "loss_scale": 8.0, "tokens_per_second": 100.0, "model_flops_utilisation": "nan",
      "measured": {"memory": {"peak": 4096, "rss_anon": 1},
                   "traffic": {"all_gather": {"wire_bytes": 5}, "all_reduce": {"wire_bytes": 16}},
                   "seconds": {"total": 0.5, "wait": 0.125}}})");
  const EventScalars wanted = {
      {"train/loss", kInfinity},  {"train/learning_rate", 0.25},    {"train/grad_norm", 2.5},
      {"train/loss_scale", 8.0},  {"speed/tokens_per_second", 100}, {"memory/peak_bytes", 4096},
      {"traffic/wire_bytes", 21}, {"seconds/total", 0.5},           {"seconds/wait", 0.125}};
  EXPECT_EQ(scalars_of(line), wanted);
}

}  // namespace
}  // namespace memwall::test
