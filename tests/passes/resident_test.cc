// Really sharded: what a rank holds at stages 0 and 3 differs, by the kernel's own account, by what
// the plan says.
#include <gtest/gtest.h>

#include "tests/support/mpi_world.h"
#include "tests/support/tiny_run.h"

namespace memwall::test {
namespace {

struct Held {
  int64_t planned = 0, anonymous = 0;
};

Held held_at(int64_t stage) {
  GptSpec spec = tiny_spec(DType::kF32);  // 13M parameters, 50 MB
  spec.layers = 4;
  spec.hidden = 512;
  spec.heads = 8;
  spec.vocabulary = 256;
  CompileSettings settings;
  settings.zero_stage = stage;
  settings.evaluate = false;
  const int64_t before = resident_anonymous_bytes();
  TinyRun run(spec, settings, world());
  run.step(0);
  return {written_page_bytes(run.plan(), {"init", "last_micro", "update"}, world().rank()),
          resident_anonymous_bytes() - before};
}

TEST(Resident, StagesDifferByWhatThePlanSays) {
  held_at(0);  // libraries allocate their scratch
  const Held whole = held_at(0), sharded = held_at(3);
  const auto planned = static_cast<double>(whole.planned - sharded.planned);
  const auto measured = static_cast<double>(whole.anonymous - sharded.anonymous);
  EXPECT_GT(planned, 50e6);
  EXPECT_NEAR(measured, planned, 0.1 * planned);
  EXPECT_NEAR(static_cast<double>(sharded.anonymous), static_cast<double>(sharded.planned),
              0.1 * static_cast<double>(sharded.planned));
}

}  // namespace
}  // namespace memwall::test
