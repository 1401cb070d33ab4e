// A transport that moves or adds something wrong must not get away with a time.
#include "runtime/cli/collective_bench.h"

#include <gtest/gtest.h>

#include "comm/agree.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {
namespace {

class CollectiveBench : public testing::Test {
 protected:
  CollectiveSide right() { return side_of("right", world()); }
  std::vector<CollectiveTimes> measure(const std::vector<CollectiveSide>& sides) {
    return measure_collectives(
        world(), sides,
        {.sizes = {256 * least_bytes(world().size())}, .rounds = 2, .one_host = true});
  }
  // On every rank, also where only the last one saw it.
  void expect_caught(const CollectiveSide& wrong, const std::string& collective) {
    try {
      measure({right(), wrong});
      ADD_FAILURE() << collective << " was not caught";
    } catch (const SharedError& error) {
      EXPECT_EQ(error.code(), ExitCode::kFailed);
      for (const std::string& part : {collective, std::string("wrong"), std::string("checksum")}) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    }
  }
  bool last() { return world().rank() == world().size() - 1; }
};

TEST_F(CollectiveBench, RightResultsAreTimed) {
  const std::vector<CollectiveTimes> all = measure({right(), right()});
  ASSERT_EQ(all.size(), 8u);  // four collectives, two sides
  for (const CollectiveTimes& t : all) {
    EXPECT_EQ(t.seconds.values.size(), 2u) << t.collective;
    EXPECT_GT(t.seconds.min(), 0.0) << t.collective;
  }
}

TEST_F(CollectiveBench, WrongSumIsCaught) {
  CollectiveSide wrong = right();
  wrong.name = "wrong";
  wrong.reduce_scatter = [this, whole_side = right()](const float* whole, float* shard,
                                                      int64_t part, std::byte* receive) {
    whole_side.reduce_scatter(whole, shard, part, receive);
    if (last()) shard[part - 1] += 1.0f;
  };
  expect_caught(wrong, "reduce_scatter");
}

TEST_F(CollectiveBench, MissingPartIsCaught) {
  CollectiveSide wrong = right();
  wrong.name = "wrong";
  wrong.all_gather = [](const float*, float*, int64_t) {};
  expect_caught(wrong, "all_gather");
}

TEST_F(CollectiveBench, SumAddedTwiceIsCaught) {
  CollectiveSide wrong = right();
  wrong.name = "wrong";
  wrong.all_reduce = [whole_side = right()](double* values, int64_t count, std::byte* receive) {
    whole_side.all_reduce(values, count, receive);
    values[count / 2] *= 2.0;
  };
  expect_caught(wrong, "all_reduce");
}

TEST_F(CollectiveBench, FlippedBitIsCaught) {
  CollectiveSide wrong = right();
  wrong.name = "wrong";
  wrong.broadcast = [this, whole_side = right()](std::byte* data, int64_t bytes) {
    whole_side.broadcast(data, bytes);
    if (last()) data[bytes - 3] ^= std::byte{1};
  };
  expect_caught(wrong, "broadcast");
}

}  // namespace
}  // namespace memwall::test
