// From a configuration to what the rooms below are given. Pure functions of a valid and effective
// configuration (runtime/config).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/make_communicator.h"
#include "runtime/config/config.h"
#include "runtime/data/dataset.h"
#include "runtime/data/sampler.h"
#include "runtime/model/gpt2.h"
#include "runtime/passes/compile.h"
#include "runtime/train/trainer.h"

namespace memwall {

// A rank's micro-step: its sequences, their length, and where dropout draws from.
GptSpec gpt_spec(const config::Config& config);

BatchLayout batch_layout(const config::Config& config, int64_t ranks);

FabricRequest fabric_request(const config::Communication& communication);

// All programs of training, and evaluation. Reads communication.cluster where that is set.
// Whether the configuration says so; AUTO is settled before (cli/gpu.h).
bool on_gpu(const config::Config& config);
CompileSettings compile_settings(const config::Config& config, const Hosting& hosting);
CompileSettings compile_settings(const config::Config& config, int64_t ranks);  // on one host

// Only the programs asked for, on a run's weights: whole on one rank, sharded on several; pairwise.
CompileSettings inference_settings(const Communicator& comm);

// 0: no limit.
int64_t budget_bytes(const config::Config& config);

// What the configuration says of the step loop; folder, hashes and machine are the caller's.
TrainSettings train_settings(const config::Config& config, int64_t ranks);

// `verify`: see TokenSourceOptions; who verifies also says how far encoding a text has come.
DatasetSpec dataset_spec(const config::Config& config, bool verify);

}  // namespace memwall
