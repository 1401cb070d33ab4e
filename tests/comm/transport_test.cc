// Which transport a job gets, and the copies past the caches.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "comm/make_communicator.h"
#include "comm/shared/shared_windows.h"
#include "comm/shared/stream_copy.h"

namespace memwall::test {
namespace {

TEST(Transport, AutoSharesMemoryOnOneHost) {
  EXPECT_EQ(choose_transport(std::nullopt, 4, 4), Transport::kSharedMemory);
  EXPECT_EQ(choose_transport(std::nullopt, 16, 16), Transport::kSharedMemory);
  EXPECT_EQ(choose_transport(std::nullopt, 4, 2), Transport::kMpi);
  EXPECT_EQ(choose_transport(std::nullopt, 1, 1), Transport::kMpi);
  EXPECT_EQ(choose_transport(std::nullopt, 17, 17), Transport::kMpi);
}

TEST(Transport, MpiIsMpiEverywhere) {
  EXPECT_EQ(choose_transport(Transport::kMpi, 4, 4), Transport::kMpi);
  EXPECT_EQ(choose_transport(Transport::kMpi, 4, 2), Transport::kMpi);
}

TEST(Transport, SharedMemoryDoesNotReachOtherHosts) {
  EXPECT_EQ(choose_transport(Transport::kSharedMemory, 4, 4), Transport::kSharedMemory);
  EXPECT_EQ(choose_transport(Transport::kSharedMemory, 64, 64), Transport::kSharedMemory);
  try {
    choose_transport(Transport::kSharedMemory, 4, 2);
    FAIL() << "not refused";
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("all 4 ranks"), std::string::npos) << message;
    EXPECT_NE(message.find("only 2"), std::string::npos) << message;
    EXPECT_NE(message.find("MPI"), std::string::npos) << message;
  }
}

TEST(Transport, SpaceIsThatOfTheFileSystemInUse) {
  const SpaceForWindows space = space_for_windows();
  EXPECT_GT(space.free_bytes, 0);
  EXPECT_FALSE(space.where.empty());
}

TEST(StreamCopy, CopiesAllSizesFromAndToAllOffsets) {
  constexpr size_t kRoom = 2000;
  std::vector<std::byte> source(kRoom);
  for (size_t i = 0; i < kRoom; ++i) source[i] = static_cast<std::byte>(i * 37 + i / 256);
  for (const size_t bytes : {0, 1, 15, 63, 64, 65, 255, 256, 257, 1000, 1024, 1500}) {
    for (size_t from = 0; from < 70; from += 3) {
      for (size_t to = 0; to < 70; ++to) {
        std::vector<std::byte> target(kRoom, std::byte{0x5a});
        std::vector<std::byte> expected = target;
        stream_copy(target.data() + to, source.data() + from, static_cast<int64_t>(bytes));
        std::copy_n(source.begin() + static_cast<ptrdiff_t>(from), bytes,
                    expected.begin() + static_cast<ptrdiff_t>(to));
        ASSERT_EQ(target, expected) << bytes << " bytes, " << from << " to " << to;
      }
    }
  }
}

}  // namespace
}  // namespace memwall::test
