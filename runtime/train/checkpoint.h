// Checkpoints: one file a rank and a manifest (configs/checkpoint.proto), valid by one atomic
// rename of their folder.
//
// Rank r's file holds shard r of every unit's parameters (or FP32 masters) and moments, whatever
// the ZeRO stage, so each element stands once among the files and any rank count can read it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/data/weight_source.h"
#include "runtime/exec/executor.h"
#include "runtime/train/step_state.h"

namespace memwall {

struct CheckpointInfo {
  int64_t step = 0;  // finished steps
  StepState state;
  uint64_t plan_hash = 0, data_fingerprint = 0;
  std::string cpu_features;  // continuation is bitwise only on the same
};

// Collective. Writes RUN/checkpoints/step-%08d; removes all but the newest `keep`. Disk full or any
// other failure: an Error on all ranks, and what was valid before stays.
void save_checkpoint(const std::string& run_dir, Executor& executor, const CheckpointInfo& info,
                     int64_t keep);

// The newest valid checkpoint folder of a run, or "" where there is none. Valid: the manifest is
// whole and every file has its size.
std::string newest_checkpoint(const std::string& run_dir);

// What is wrong with the newest checkpoint folder of a run, where it is not valid; else "".
std::string damage_of_newest(const std::string& run_dir);

// What a checkpoint says of itself, of any rank count and model. InputError as below.
struct CheckpointSummary {
  CheckpointInfo info;
  int64_t ranks = 0;
};
CheckpointSummary read_checkpoint_summary(const std::string& folder);

// Collective. Fills parameters, masters and moments; the stage may be another one than when it was
// saved. An Error with exit code kBadInput on all ranks for damaged, truncated or foreign files
// (checksums are compared), another model or precision, and another rank count.
CheckpointInfo load_checkpoint(const std::string& folder, Executor& executor);

// Weights by tensor and range, from any rank count, reading only what is asked for. InputError from
// here on for a damaged manifest or a file of the wrong size; from the first read of a unit in a
// file where its checksum is wrong.
std::unique_ptr<WeightSource> open_checkpoint_weights(const std::string& folder);

// Fills the parameter and master slots of this rank from `source`, whole or its shard; padding is
// zero. InputError where a tensor is missing or has another shape.
void load_weights(const WeightSource& source, Executor& executor);

}  // namespace memwall
