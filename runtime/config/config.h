// The configuration of a run: read, overridden, completed and checked. The schema, with the
// meaning, unit and default of every field, is configs/memwall.proto; fields are named by their
// dotted path, "optimizer.adahessian.probes".
//
// Errors are InputError, one line a problem and at most five:
// `FILE:LINE: FIELD: reason (allowed: ...)`, or `--set FIELD=VALUE: reason (allowed: ...)` where
// the command line gave the value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "configs/memwall.pb.h"

namespace memwall {

// A configuration as the user gave it, nothing filled in, with the place of every field.
struct GivenConfig {
  config::Config config;
  std::string file;
  // Where fields and messages were given: "FILE:LINE" or "--set FIELD=VALUE", by dotted path.
  std::map<std::string, std::string, std::less<>> places;

  // What an error about `field` begins with, FIELD included. A field that was not given is placed
  // at the message it belongs to.
  std::string at(std::string_view field) const;
};

// Reads `path` and applies each "FIELD=VALUE" in order. VALUE is literal: strings unquoted, enums
// by name. A repeated field is replaced by the first override that names it and appended to by
// further ones. Overriding data.text removes the file's token files, and the reverse.
GivenConfig load_config(const std::string& path, const std::vector<std::string>& overrides = {});

// `given` with every default that has an effect filled in. Idempotent.
config::Config effective(const config::Config& given, int64_t ranks);

// kPlan needs no data and no steps, and plans any precision; kBench needs no data and no steps.
enum class Purpose { kTrain, kPlan, kBench };

// Checks everything about effective(given) that needs no file but the configuration: missing
// fields, impossible values, features of later versions, and fields given without an effect.
void validate(const GivenConfig& given, int64_t ranks, Purpose purpose);

// The configuration a run of `stored` goes on with when it is resumed with `now`: effective, paths
// resolved, schedule.decay_steps as stored. Refuses a changed field unless it is one of
// run.{steps,log_every,eval_every,save_every,keep_checkpoints,time_limit,trace_steps}.
config::Config resumed(const config::Config& stored, const GivenConfig& now, int64_t ranks);

// Whether attention could be one op if it computes on a GPU: what run.fused_attention decides.
bool could_fuse_attention(const config::Config& config);

// Makes every path and glob absolute, from the working directory.
void resolve_paths(config::Config& config);

// Text format that load_config reads back to an equal message.
std::string to_text(const config::Config& config);

// The dotted path of every field that is not a message, in the schema's order.
std::vector<std::string> all_fields();

}  // namespace memwall
