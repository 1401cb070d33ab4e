#include "runtime/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/message_differencer.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>
#include <system_error>
#include <vector>

#include "comm/agree.h"
#include "runtime/base/hash.h"
#include "runtime/data/atomic_file.h"
#include "runtime/train/checkpoint_files.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using google::protobuf::util::MessageDifferencer;

constexpr const char* kTemporaryPrefix = ".tmp-";

std::string checkpoints_of(const std::string& run_dir) {
  return run_dir + "/checkpoints";
}

[[noreturn]] void fail(const char* action, const std::string& path, const std::error_code& error) {
  throw Error(std::string("cannot ") + action + ": " + error.message(), path);
}

void sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int error = fd >= 0 && ::fsync(fd) == 0 ? 0 : errno;
  if (fd >= 0) ::close(fd);
  if (error != 0 && error != EINVAL) {  // EINVAL: this file system cannot sync folders
    fail("sync", folder, {error, std::generic_category()});
  }
}

void remove_folder(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) fail("remove", folder, error);
}

int64_t moments_of(const Plan& plan) {
  return std::count_if(kMomentSlots.begin(), kMomentSlots.end(),
                       [&](SlotKind kind) { return plan.find_slot(kind, 0) != nullptr; });
}

// What a section holds: the exact parameters are the masters where there are any.
const Slot& saved_slot(const Plan& plan, size_t unit, size_t section) {
  const auto number = static_cast<int64_t>(unit);
  const Slot* slot = nullptr;
  if (section == kParameterSection) {
    slot = plan.find_slot(SlotKind::kMaster, number);
    if (slot == nullptr) slot = plan.find_slot(SlotKind::kParameter, number);
  } else {
    slot = plan.find_slot(kMomentSlots[section - 1], number);
  }
  check(slot != nullptr, "the plan lacks a slot that a checkpoint holds", plan.units[unit].name);
  return *slot;
}

// This rank's shard of the slot's unit, where it lies in the arena.
Tensor shard_in_arena(const Executor& executor, const Slot& slot) {
  const Tensor whole = executor.slot(slot);
  if (slot.sharded) return whole;
  const int64_t elements = whole.elements() / executor.plan().ranks;
  return {whole.as<std::byte>() + executor.comm().rank() * elements * size_of(whole.dtype),
          whole.dtype, Shape{elements}};
}

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.as<std::byte>(), static_cast<size_t>(tensor.elements() * size_of(tensor.dtype))};
}

template <class F>  // f(unit, section)
void each_section(const Plan& plan, const F& f) {
  const auto sections = 1 + static_cast<size_t>(moments_of(plan));
  for (size_t unit = 0; unit < plan.units.size(); ++unit) {
    for (size_t section = 0; section < sections; ++section) f(unit, section);
  }
}

// Model, ranks and precision; a checkpoint can be loaded where they are equal.
Manifest describe(const Plan& plan) {
  Manifest out;
  out.set_format(kCheckpointFormat);
  out.set_ranks(plan.ranks);
  const DType dtype = saved_slot(plan, 0, kParameterSection).dtype;
  out.set_dtype(std::string(name_of(dtype)));
  out.set_moments(static_cast<uint32_t>(moments_of(plan)));
  each_section(plan, [&](size_t unit, size_t section) {
    check(saved_slot(plan, unit, section).dtype == dtype, "a checkpoint has one dtype");
  });
  for (const Unit& unit : plan.units) {
    auto& described = *out.add_units();
    described.set_name(unit.name);
    described.set_padded_elements(unit.padded);
    for (const Segment& segment : unit.segments) {
      auto& tensor = *described.add_tensors();
      tensor.set_name(segment.name);
      tensor.set_offset(segment.offset);
      for (int i = 0; i < segment.shape.rank(); ++i) tensor.add_shape(segment.shape[i]);
    }
  }
  return out;
}

Manifest describe(const Plan& plan, const CheckpointInfo& info) {
  Manifest out = describe(plan);
  out.set_memwall_version(MEMWALL_VERSION);
  out.set_step(info.step);
  out.set_applied_steps(info.state.applied);
  out.set_plan_hash(hash_hex(info.plan_hash));
  out.set_data_fingerprint(hash_hex(info.data_fingerprint));
  out.set_cpu_features(info.cpu_features);
  const StepState& state = info.state;
  out.set_loss_scale(state.loss_scale.scale);
  out.set_loss_scale_clean_steps(state.loss_scale.clean_steps);
  out.set_loss_scale_overflows(state.loss_scale.overflows);
  out.set_measured_steps(state.measured);
  out.set_sign_scale(state.sign_scale.scale);
  out.set_sign_scale_clean_steps(state.sign_scale.clean_steps);
  return out;
}

CheckpointInfo info_of(const Manifest& manifest) {
  CheckpointInfo info;
  info.step = manifest.step();
  info.state.applied = manifest.applied_steps();
  info.plan_hash = std::stoull(manifest.plan_hash(), nullptr, 16);
  info.data_fingerprint = std::stoull(manifest.data_fingerprint(), nullptr, 16);
  info.cpu_features = manifest.cpu_features();
  info.state.loss_scale = {manifest.loss_scale(), manifest.loss_scale_clean_steps(),
                           manifest.loss_scale_overflows()};
  info.state.measured = manifest.measured_steps();
  // A checkpoint from before curvature was kept has no scale of its signs.
  if (manifest.sign_scale() > 0.0) {
    info.state.sign_scale = {manifest.sign_scale(), manifest.sign_scale_clean_steps(), 0};
  }
  return info;
}

checkpoint::RankFile write_rank_file(const std::string& folder, const Executor& executor,
                                     const Manifest& manifest) {
  const FileLayout layout(manifest);
  AtomicFile file(folder + "/" + rank_file_name(executor.comm().rank()));
  file.reserve(layout.file_bytes());
  std::vector<uint64_t> table(layout.sections());
  each_section(executor.plan(), [&](size_t unit, size_t section) {
    const auto shard = bytes_of(
        executor.fetch(shard_in_arena(executor, saved_slot(executor.plan(), unit, section))));
    const size_t index = layout.index(unit, section);
    check(static_cast<int64_t>(shard.size()) == layout.bytes(index), "a shard of another size");
    table[index] = hash_bytes(shard.data(), shard.size());
    file.write(layout.offset(index), shard);
  });
  const auto table_bytes = std::as_bytes(std::span(table));
  file.write(layout.table_offset(), table_bytes);
  file.commit();
  checkpoint::RankFile out;
  out.set_bytes(layout.file_bytes());
  out.set_checksum(hash_hex(hash_bytes(table_bytes.data(), table_bytes.size())));
  return out;
}

// An interrupted save leaves a folder that was never renamed.
void begin_folder(const std::string& checkpoints, const std::string& temporary) {
  std::error_code error;
  fs::create_directories(checkpoints, error);
  if (error) fail("create", checkpoints, error);
  std::vector<std::string> leftovers;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    if (entry.path().filename().string().starts_with(kTemporaryPrefix)) {
      leftovers.push_back(entry.path().string());
    }
  }
  for (const std::string& leftover : leftovers) remove_folder(leftover);
  fs::create_directory(temporary, error);
  if (error) fail("create", temporary, error);
}

// "" for a valid checkpoint. Without the remedy, which is for one that is asked for.
std::string damage_of(const std::string& folder) {
  try {
    check_file_sizes(folder, read_manifest(folder));
    return "";
  } catch (const InputError& error) {
    const std::string text = error.what();
    return text.substr(0, text.rfind(" ("));
  }
}

bool is_valid(const std::string& folder) {
  return damage_of(folder).empty();
}

// A folder of this name that is there already is not valid: training went on from an older one.
void publish(const std::string& temporary, const std::string& folder) {
  remove_folder(folder);
  std::error_code error;
  fs::rename(temporary, folder, error);
  if (error) fail("rename into place", folder, error);
  sync_folder(fs::path(folder).parent_path().string());
}

// Removes what is older than the newest `keep` valid ones.
void prune(const std::string& checkpoints, int64_t keep) {
  int64_t valid = 0;
  for (int64_t step : checkpoint_steps(checkpoints)) {
    const std::string folder = checkpoints + "/" + step_folder_name(step);
    if (valid >= keep) {
      remove_folder(folder);
    } else if (is_valid(folder)) {
      ++valid;
    }
  }
}

std::string tensor_text(const checkpoint::Tensor& tensor) {
  return "'" + tensor.name() + "' {" + tensor.ShortDebugString() + "}";
}

void check_same_model(const Manifest& found, const Manifest& expected, const std::string& folder) {
  const auto refuse = [&](const std::string& what, const std::string& remedy = "") {
    throw InputError("the checkpoint is of another run: " + what, folder, remedy);
  };
  if (found.ranks() != expected.ranks()) {
    throw InputError(
        fmt::format("the checkpoint was saved by {} ranks and this run has {}: optimizer state "
                    "cannot be resharded yet",
                    found.ranks(), expected.ranks()),
        folder, fmt::format("start {} ranks; eval, generate and export take any", found.ranks()));
  }
  if (found.dtype() != expected.dtype()) {
    refuse(fmt::format("it holds {}, the plan {}", found.dtype(), expected.dtype()));
  }
  if (found.moments() != expected.moments()) {
    refuse(fmt::format("it holds {} moments a parameter, the plan {}", found.moments(),
                       expected.moments()));
  }
  if (found.units_size() != expected.units_size()) {
    refuse(fmt::format("it has {} units, the plan {}", found.units_size(), expected.units_size()));
  }
  for (int u = 0; u < found.units_size(); ++u) {
    const auto &theirs = found.units(u), &ours = expected.units(u);
    for (int t = 0; t < std::min(theirs.tensors_size(), ours.tensors_size()); ++t) {
      if (!MessageDifferencer::Equals(theirs.tensors(t), ours.tensors(t))) {
        refuse(fmt::format("it has tensor {}, the plan {}", tensor_text(theirs.tensors(t)),
                           tensor_text(ours.tensors(t))));
      }
    }
    if (!MessageDifferencer::Equals(theirs, ours)) {
      refuse(fmt::format("unit '{}' has another layout", ours.name()));
    }
  }
}

// Whole slots are filled shard by shard, each from the rank that has it.
void gather_whole_slots(Executor& executor) {
  Communicator& comm = executor.comm();
  const Plan& plan = executor.plan();
  each_section(plan, [&](size_t unit, size_t section) {
    const Slot& slot = saved_slot(plan, unit, section);
    if (!slot.sharded && plan.ranks > 1) {
      const auto shard = bytes_of(shard_in_arena(executor, slot));
      comm.wait(comm.all_gather(shard.data(), executor.slot(slot).data,
                                static_cast<int64_t>(shard.size())));
    }
    executor.send(executor.slot(slot));
  });
  executor.forget_copies();
}

}  // namespace

void save_checkpoint(const std::string& run_dir, Executor& executor, const CheckpointInfo& info,
                     int64_t keep) {
  check(keep >= 1, "a checkpoint that would be removed at once");
  Communicator& comm = executor.comm();
  comm.set_activity("saving a checkpoint");
  const bool leads = comm.rank() == 0;
  const std::string checkpoints = checkpoints_of(run_dir);
  const std::string name = step_folder_name(info.step);
  const std::string temporary = checkpoints + "/" + kTemporaryPrefix + name;
  try {
    run_together(comm, [&] {
      if (leads) begin_folder(checkpoints, temporary);
    });
    Manifest manifest = describe(executor.plan(), info);
    checkpoint::RankFile mine;
    run_together(comm, [&] { mine = write_rank_file(temporary, executor, manifest); });
    const std::vector<std::string> files = comm.gather_text(mine.SerializeAsString());
    run_together(comm, [&] {
      if (!leads) return;
      for (const std::string& file : files) {
        check(manifest.add_files()->ParseFromString(file), "a rank's file has no description");
      }
      write_manifest(temporary, manifest);
      publish(temporary, checkpoints + "/" + name);
      prune(checkpoints, keep);
    });
    executor.forget_copies();
  } catch (...) {
    std::error_code ignored;  // the first error is the one to hear of
    if (leads) fs::remove_all(temporary, ignored);
    throw;
  }
}

std::string newest_checkpoint(const std::string& run_dir) {
  const std::string checkpoints = checkpoints_of(run_dir);
  for (int64_t step : checkpoint_steps(checkpoints)) {
    const std::string folder = checkpoints + "/" + step_folder_name(step);
    if (is_valid(folder)) return folder;
  }
  return "";
}

std::string damage_of_newest(const std::string& run_dir) {
  const std::string checkpoints = checkpoints_of(run_dir);
  const std::vector<int64_t> steps = checkpoint_steps(checkpoints);
  return steps.empty() ? "" : damage_of(checkpoints + "/" + step_folder_name(steps.front()));
}

CheckpointSummary read_checkpoint_summary(const std::string& folder) {
  const Manifest manifest = read_manifest(folder);
  return {info_of(manifest), manifest.ranks()};
}

CheckpointInfo load_checkpoint(const std::string& folder, Executor& executor) {
  Communicator& comm = executor.comm();
  comm.set_activity("loading a checkpoint");
  const Plan& plan = executor.plan();
  CheckpointInfo info;
  run_together(comm, [&] {
    const Manifest manifest = read_manifest(folder);
    check_same_model(manifest, describe(plan), folder);
    const FileLayout layout(manifest);
    const RankFile file(folder, manifest, comm.rank());
    each_section(plan, [&](size_t unit, size_t section) {
      const Slot& slot = saved_slot(plan, unit, section);
      const auto bytes = file.section(layout.index(unit, section));
      const auto shard = bytes_of(shard_in_arena(executor, slot));
      std::memcpy(shard.data(), bytes.data(), bytes.size());
    });
    info = info_of(manifest);
  });
  gather_whole_slots(executor);
  if (plan.has_program("restore")) executor.run(plan.program("restore"));
  return info;
}

}  // namespace memwall
