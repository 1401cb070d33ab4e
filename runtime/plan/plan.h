// The plan: one training step as plain data. It says, for every rank at once, which steps run in
// which order on which stream, where in the arena each operand lies, and what waits for what. It
// is byte-identical on all ranks: an address is `base + rank * rank_stride`.
//
// The plan knows nothing of how it was made (runtime/passes), and what executes it
// (runtime/exec) or walks it (runtime/sim) knows nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/collective.h"
#include "runtime/base/dtype.h"
#include "runtime/base/op.h"
#include "runtime/base/shape.h"
#include "runtime/base/unit.h"

namespace memwall {

// What bytes are for; the keys of `memory` in the interface, in its order.
enum class Category : uint8_t {
  kParameters,          // weights held through the step
  kGradients,           // what the update reads, accumulators included
  kOptimizerState,      // master weights and moments
  kActivations,         // forward values, their cotangents, the step's input
  kGatheredParameters,  // stage 3's whole copies
  kCommunication,       // a unit's gradient before its scatter, receive buffers
  kWorkspace,           // scratch of kernels and chunk bodies, per-step scalars
  kCount
};
constexpr size_t kCategoryCount = static_cast<size_t>(Category::kCount);
using ByCategory = std::array<int64_t, kCategoryCount>;
std::string_view name_of(Category category);

// A value that steps read and write. Tags of the verifier, names for people.
struct PlanValue {
  std::string name;
  Category category = Category::kActivations;
  int64_t bytes = 0;
};

enum class SlotKind : uint8_t {
  kParameter,
  kMaster,
  kMoment1,
  kMoment2,
  kGradient,     // of a unit
  kCurvature,    // of a unit: z (H z), summed and averaged as the update reads it, or so far
  kVector,       // of a unit: the direction v of H v
  kScalars,      // f64[kScalarCount]
  kTraceSum,     // f64[parts]         z (H z), each shard's sum, on its way to the update program
  kLossSum,      // f64[1]   summed over micro-steps, on its way to the update program
  kTokens,       // i32[batch, time]   written by the host
  kTargets,      // i32[batch, time]
  kSampleIndex,  // i64[batch]         global sample numbers, for dropout
  kPosition,     // i32[1]             next_token: the row whose successor is asked for
  kSampleLoss,   // f64[batch]         evaluate: loss summed over each sequence
  kLogits,       // [vocabulary] next_token
};
// What an optimizer keeps of a unit, in the order of its update's operands.
constexpr std::array<SlotKind, 2> kMomentSlots = {SlotKind::kMoment1, SlotKind::kMoment2};
std::string_view name_of(SlotKind kind);

// Persistent storage, alive between programs, at `offset` bytes of the arena.
struct Slot {
  SlotKind kind = SlotKind::kParameter;
  int64_t unit = -1;     // index into Plan::units, or -1
  bool sharded = false;  // holds this rank's shard of the unit, not the whole
  DType dtype = DType::kF32;
  Shape shape;
  int64_t offset = 0;
  int64_t bytes = 0;
  int32_t value = 0;  // PlanValue that names it
};

// Bytes [start, start + bytes) of `value`, found at [base, base + bytes) of the arena.
// Rank r adds r * rank_stride to `base` and r * rank_start to `start`. Inside a body, iteration i
// adds i / period times iteration_bytes to `base` and iteration_start to `start`.
struct Operand {
  int32_t value = 0;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t bytes = 0;
  int64_t base = 0, rank_stride = 0;
  int64_t start = 0, rank_start = 0;
  int64_t period = 1, iteration_bytes = 0, iteration_start = 0;
};

enum class Stream : uint8_t { kCompute, kCommunication, kCount };

// When a step adds to its first output instead of overwriting it.
enum class Accumulate : uint8_t {
  kNever,
  kAlways,
  kUnlessFirstMicroStep,  // the first micro-step of a step overwrites
  kUnlessFirstOfPeriod,   // in a body: iteration i overwrites where i % period == 0
  kUnlessFirstOfBoth,     // in a body: so, but only in the first micro-step
};

struct Step {
  std::string name;  // "block3/attn/qkv", with a suffix for backward and clones
  Op op = Op::kCopy;
  Attributes attributes;
  Stream stream = Stream::kCompute;
  Algorithm algorithm = Algorithm::kPairwise;  // of an all-gather or a reduce-scatter
  bool backward = false, recomputed = false;
  int32_t block = -1;  // Transformer block, or -1
  std::vector<Operand> inputs, outputs;
  bool tangent = false;  // computes tangents of H z, and nothing else
  bool dual = false;     // computes values and their tangents: see kernels/kernel.h
  // Scratch in the arena (an operand of its own value), bytes == 0 where there is none.
  Operand workspace;
  // Empty, or one an output (bytes == 0: none): what lies in the output's place and is added to.
  std::vector<Operand> addends;
  Accumulate accumulate = Accumulate::kNever;
  int64_t accumulate_period = 1;
  // outputs[first] may lie exactly on inputs[second]: the kernel reads an element before it
  // writes it.
  std::vector<std::pair<int32_t, int32_t>> in_place;
  // Steps of the other stream, by index in the program, that must be complete before this one
  // starts. On its own stream a step starts after the one before it.
  std::vector<int32_t> waits;
  int32_t body = -1;  // kChunked: index into Program::bodies
  int64_t flops = 0;  // of all iterations
  int64_t dram_bytes = 0;
};

struct Body {
  int64_t count = 0;
  std::vector<Step> steps;  // all on the compute stream, no waits
};

// What a program leaves in a slot: the bytes at `where`, a part of the slot's storage, hold
// `where.value` when it ends and are the slot's contents from then on. What else it wrote there is
// no longer the slot's.
struct SlotResult {
  int32_t slot = 0;
  Operand where;
};

struct Program {
  std::string name;  // init, restore, evaluate, next_token, or one of training_step
  std::vector<Step> steps;
  std::vector<Body> bodies;
  std::vector<SlotResult> results;  // slots this program rewrites, with the values left in them
  std::vector<int32_t> host_slots;  // slots the host writes before the program runs
  // At the list position with the most live bytes, and each category's own maximum (persistent
  // bytes included).
  int64_t live_bytes_peak = 0;
  ByCategory at_peak{}, maximum{};
};

struct PlannedTraffic {
  int64_t calls = 0, payload_bytes = 0, wire_bytes = 0;
  bool operator==(const PlannedTraffic&) const = default;
};

// Per rank and training step: all that training_step runs.
struct StepTotals {
  PlannedTraffic all_gather, reduce_scatter, all_reduce;
  int64_t model_flops = 0, recomputed_flops = 0, tangent_flops = 0;
  int64_t dram_bytes = 0;
};

// Of a step, and where only some measure curvature: of a step that does.
struct Totals : StepTotals {
  StepTotals between;               // of a step that does not; else the same
  int64_t padding_bytes = 0;        // inside parameters, gradients and optimizer state
  ByCategory at_peak{}, maximum{};  // of the program with the largest peak
  int64_t lower_bound = 0;          // most bytes live at once: what no placement can go below
};

struct Plan {
  int64_t ranks = 1;
  int64_t micro_steps = 1;  // a step
  int64_t probes = 1;       // random directions a measurement of curvature
  int64_t zero_stage = 0;   // for people; nothing that executes reads it
  std::string target = "cpu";
  Fabric fabric;
  int64_t page_bytes = 4096;
  int64_t persistent_bytes = 0;  // arena: slots, then the transient region
  int64_t arena_bytes = 0;
  int64_t parameters = 0;  // without padding
  std::vector<Unit> units;
  std::vector<PlanValue> values;
  std::vector<Slot> slots;
  std::vector<Program> programs;
  Totals totals;

  const Program& program(std::string_view name) const;  // throws InternalError
  bool has_program(std::string_view name) const;
  const Slot* find_slot(SlotKind kind, int64_t unit = -1) const;  // nullptr where there is none
};

// One run of a program within a training step; micro-steps and probes count from 0.
struct ProgramRun {
  std::string_view program;
  int64_t micro_step = 0, probe = 0;
};
// What a training step runs, in order: `micro` and `last_micro`, then `update`; on a step that
// measures curvature `micro_hessian` and `last_micro_hessian`, each with further `probe`s behind it
// and `last_probe` last of all, then `update_hessian`.
std::vector<ProgramRun> training_step(int64_t micro_steps, int64_t probes, bool curvature);
// The programs of Lanczos and of Hutchinson's estimate, each run once a micro-batch.
constexpr std::string_view kHessianVector = "hessian_vector", kHessianSigns = "hessian_signs";

// One line per fact, read back exactly by `parse_plan`. The hash is that of the text.
std::string dump_plan(const Plan& plan);
Plan parse_plan(std::string_view text, const std::string& file_name);  // throws InputError
uint64_t plan_hash(const Plan& plan);

// The bytes of a rank that memory.budget bounds: all that is allocated for the plan.
int64_t planned_bytes(const Plan& plan);

// Whole pages, in bytes, that the steps of the named programs and the host write (every slot in
// `host_slots`, every output and workspace), on rank `rank`: the planned peak.
int64_t written_page_bytes(const Plan& plan, const std::vector<std::string>& programs,
                           int64_t rank = 0);

}  // namespace memwall
