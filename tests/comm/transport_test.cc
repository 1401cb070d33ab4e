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

constexpr Fabric kMessages{}, kFourShare{Transport::kSharedMemory, 4};

TEST(Fabric, AutoSharesMemoryOnOneHost) {
  EXPECT_EQ(choose_fabric({}, {4, 4, 4}), kFourShare);
  EXPECT_EQ(choose_fabric({}, {16, 16, 16}), (Fabric{Transport::kSharedMemory, 16}));
  EXPECT_EQ(choose_fabric({}, {4, 1, 1}), kMessages);
  EXPECT_EQ(choose_fabric({}, {1, 1, 1}), kMessages);
  EXPECT_EQ(choose_fabric({}, {17, 17, 17}), kMessages);
}

// Between hosts of several ranks two levels may be chosen, and need the hosts' windows.
TEST(Fabric, AutoOpensTheWindowsOfEachHost) {
  EXPECT_EQ(choose_fabric({}, {8, 4, 4}), (Fabric{Transport::kMpi, 4}));
  EXPECT_EQ(choose_fabric({}, {7, 4, 1}), kMessages);
}

TEST(Fabric, MpiIsMpiEverywhere) {
  const FabricRequest mpi{.transport = Transport::kMpi, .algorithm = Algorithm::kPairwise};
  EXPECT_EQ(choose_fabric(mpi, {4, 4, 4}), kMessages);
  EXPECT_EQ(choose_fabric(mpi, {4, 2, 2}), kMessages);
}

TEST(Fabric, RingsAndTwoLevelsGoOverMessages) {
  const FabricRequest ring{.transport = {}, .algorithm = Algorithm::kRing};
  EXPECT_EQ(choose_fabric(ring, {4, 4, 4}), kMessages);
  const FabricRequest levels{.transport = {}, .algorithm = Algorithm::kTwoLevel};
  EXPECT_EQ(choose_fabric(levels, {4, 4, 4}), (Fabric{Transport::kMpi, 4}));
  EXPECT_EQ(choose_fabric(levels, {8, 2, 2}), (Fabric{Transport::kMpi, 2}));
}

std::string refusal(const FabricRequest& asked, const Hosting& hosting) {
  try {
    choose_fabric(asked, hosting);
  } catch (const InputError& error) {
    return error.what();
  }
  return "not refused";
}

TEST(Fabric, SharedMemoryDoesNotReachOtherHosts) {
  const FabricRequest shared{.transport = Transport::kSharedMemory, .algorithm = {}};
  EXPECT_EQ(choose_fabric(shared, {4, 4, 4}), kFourShare);
  EXPECT_EQ(choose_fabric(shared, {64, 64, 64}), (Fabric{Transport::kSharedMemory, 64}));
  const std::string message = refusal(shared, {4, 2, 2});
  EXPECT_NE(message.find("all 4 ranks"), std::string::npos) << message;
  EXPECT_NE(message.find("only 2"), std::string::npos) << message;
  EXPECT_NE(message.find("MPI"), std::string::npos) << message;
}

TEST(Fabric, WhatCannotBeIsRefused) {
  const std::string ring =
      refusal({.transport = Transport::kSharedMemory, .algorithm = Algorithm::kRing}, {4, 4, 4});
  EXPECT_NE(ring.find("no algorithm but PAIRWISE"), std::string::npos) << ring;
  const std::string uneven =
      refusal({.transport = {}, .algorithm = Algorithm::kTwoLevel}, {7, 4, 1});
  EXPECT_NE(uneven.find("same number of ranks on every host"), std::string::npos) << uneven;
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
