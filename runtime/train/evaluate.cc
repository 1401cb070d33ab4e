#include <vector>

#include "runtime/train/elements.h"
#include "runtime/train/trainer.h"

namespace memwall {

Evaluation evaluate(Executor& executor, const TokenRange& validation, int64_t seq_length,
                    int64_t micro_batch) {
  Communicator& comm = executor.comm();
  const int64_t ranks = comm.size();
  const ValidationWindows windows(validation, seq_length, ranks, micro_batch);
  const Program& program = executor.plan().program("evaluate");
  const auto tokens = elements_of<int32_t>(executor.slot(SlotKind::kTokens));
  const auto targets = elements_of<int32_t>(executor.slot(SlotKind::kTargets));
  const auto losses = elements_of<double>(executor.slot(SlotKind::kSampleLoss));
  check(static_cast<int64_t>(losses.size()) == micro_batch, "the plan evaluates another batch");

  std::vector<double> mine, weights(static_cast<size_t>(micro_batch));
  for (int64_t round = 0; round < windows.rounds(); ++round) {
    windows.fill(round, comm.rank(), tokens, targets, weights);
    executor.send(SlotKind::kTokens);
    executor.send(SlotKind::kTargets);
    executor.run(program);
    executor.fetch(SlotKind::kSampleLoss);
    mine.insert(mine.end(), losses.begin(), losses.end());
  }

  // Windows ascend by round, then rank, then row.
  comm.set_activity("evaluation");
  const std::vector<double> all = comm.gather_all(mine);
  double sum = 0.0;
  for (int64_t round = 0; round < windows.rounds(); ++round) {
    for (int64_t rank = 0; rank < ranks; ++rank) {
      for (int64_t row = 0; row < micro_batch; ++row) {
        if (windows.window(round, rank, row) < 0) continue;
        const int64_t at = (rank * windows.rounds() + round) * micro_batch + row;
        sum += all[static_cast<size_t>(at)];
      }
    }
  }
  return {sum / static_cast<double>(windows.tokens()), windows.tokens()};
}

}  // namespace memwall
