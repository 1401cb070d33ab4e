#include "runtime/train/event_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <isa-l/crc.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "comm/host.h"
#include "configs/tensorboard.pb.h"
#include "runtime/base/error.h"
#include "runtime/data/mapped_file.h"

namespace memwall {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "records are copied as they are");

constexpr std::string_view kPrefix = "events.out.tfevents.";
constexpr size_t kLengthBytes = sizeof(uint64_t), kChecksumBytes = sizeof(uint32_t);
constexpr size_t kHeaderBytes = kLengthBytes + kChecksumBytes;

// CRC32C, rotated and shifted so that a checksum of data that holds checksums is no weak one.
uint32_t masked_crc(std::string_view bytes) {
  // The library's argument is not const, but it only reads.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  const uint32_t crc = ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~0u);
  return std::rotr(crc, 15) + 0xa282ead8u;
}

template <class T>
void put(T value, std::string& out) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class T>
T get(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// The message of the record that `rest` begins with; empty where it is torn or damaged.
std::string_view first_message(std::string_view rest) {
  if (rest.size() < kHeaderBytes) return {};
  const auto bytes = get<uint64_t>(rest);
  if (get<uint32_t>(rest.substr(kLengthBytes)) != masked_crc(rest.substr(0, kLengthBytes)))
    return {};
  rest.remove_prefix(kHeaderBytes);
  if (rest.size() < kChecksumBytes || rest.size() - kChecksumBytes < bytes) return {};
  const std::string_view message = rest.substr(0, bytes);
  return get<uint32_t>(rest.substr(bytes)) == masked_crc(message) ? message : std::string_view();
}

double wall_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// In the order in which TensorBoard reads them.
std::vector<std::string> event_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(kPrefix)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void cut(const std::string& path, int64_t last_step) {
  bool holds_scalars = false;
  int64_t kept = 0, size = 0;
  {
    const MappedFile map(path);
    size = static_cast<int64_t>(map.bytes().size());
    kept = kept_event_bytes({reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()},
                            last_step, holds_scalars);
  }
  std::error_code error;
  if (!holds_scalars) {
    fs::remove(path, error);
  } else if (kept < size) {
    fs::resize_file(path, static_cast<uintmax_t>(kept), error);
  }
  if (error) throw Error("cannot cut: " + error.message(), path);
}

// TensorBoard reads the files of a folder by name and never goes back: the seconds in a new file's
// name must be later than those of the last one.
std::string new_name(const std::vector<std::string>& names) {
  auto seconds = static_cast<int64_t>(wall_time());
  if (!names.empty()) {
    const std::string last = names.back().substr(kPrefix.size());
    int64_t there = 0;
    for (size_t i = 0; i < last.size() && last[i] >= '0' && last[i] <= '9' && i < 18; ++i) {
      there = 10 * there + (last[i] - '0');
    }
    seconds = std::max(seconds, there + 1);
  }
  return fmt::format("{}{:010}.{}.{}.0", kPrefix, seconds, host_name(), ::getpid());
}

double number_of(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

EventScalars scalars_of(const Json& line) {
  EventScalars out;
  const auto add = [&](const std::string& tag, const Json& from, const char* key) {
    if (from.contains(key)) out.emplace_back(tag, number_of(from[key]));
  };
  add("train/loss", line, "loss");
  add("train/learning_rate", line, "lr");
  add("train/grad_norm", line, "grad_norm");
  add("train/loss_scale", line, "loss_scale");
  add("speed/tokens_per_second", line, "tokens_per_second");
  const double utilisation = number_of(line.value("model_flops_utilisation", Json()));
  if (!std::isnan(utilisation)) out.emplace_back("speed/model_flops_utilisation", utilisation);
  if (line.contains("hessian")) add("train/hessian_trace", line["hessian"], "trace");
  const Json measured = line.value("measured", Json::object());
  add("memory/peak_bytes", measured.value("memory", Json::object()), "peak");
  double wire = 0.0;
  const Json traffic = measured.value("traffic", Json::object());
  for (const auto& [name, part] : traffic.items())
    wire += number_of(part.value("wire_bytes", Json()));
  if (!traffic.empty()) out.emplace_back("traffic/wire_bytes", wire);
  const Json split = measured.value("seconds", Json::object());
  for (const auto& [name, seconds] : split.items()) {
    if (seconds.is_number()) out.emplace_back("seconds/" + name, number_of(seconds));
  }
  return out;
}

std::string scalar_event(double wall_time, int64_t step, const EventScalars& scalars) {
  tensorboard::Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  for (const auto& [tag, value] : scalars) {
    tensorboard::Summary::Value* out = event.mutable_summary()->add_value();
    out->set_tag(tag);
    out->set_simple_value(static_cast<float>(value));
  }
  return event.SerializeAsString();
}

std::string tf_record(std::string_view message) {
  std::string out;
  put(uint64_t{message.size()}, out);
  put(masked_crc(out), out);
  out += message;
  put(masked_crc(message), out);
  return out;
}

int64_t kept_event_bytes(std::string_view file, int64_t last_step, bool& holds_scalars) {
  size_t kept = 0;
  holds_scalars = false;
  while (kept < file.size()) {
    const std::string_view message = first_message(file.substr(kept));
    tensorboard::Event event;
    if (message.empty() ||
        !event.ParseFromArray(message.data(), static_cast<int>(message.size())) ||
        event.step() > last_step) {
      break;
    }
    holds_scalars |= event.summary().value_size() > 0;
    kept += kHeaderBytes + message.size() + kChecksumBytes;
  }
  return static_cast<int64_t>(kept);
}

EventFile::EventFile(const std::string& folder, int64_t finished_steps) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error("cannot create: " + error.message(), folder);
  const std::vector<std::string> before = event_files(folder);
  for (const std::string& name : before) cut(folder + '/' + name, finished_steps);
  path_ = folder + '/' + new_name(before);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("open", errno);
  try {
    tensorboard::Event version;
    version.set_wall_time(wall_time());
    version.set_file_version("brain.Event:2");
    append_record(version.SerializeAsString());
    if (before.empty()) return;
    tensorboard::Event start;
    start.set_wall_time(wall_time());
    start.set_step(finished_steps + 1);
    start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
    append_record(start.SerializeAsString());
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

EventFile::~EventFile() {
  ::close(fd_);
}

void EventFile::append(int64_t step, const EventScalars& scalars) {
  append_record(scalar_event(wall_time(), step, scalars));
}

void EventFile::append_record(std::string_view message) {
  const std::string record = tf_record(message);
  std::string_view rest = record;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = written < 0 ? errno : ENOSPC;
      if (::ftruncate(fd_, size_) != 0) fail("cut a torn record of", errno);
      fail("write", error);
    }
    rest.remove_prefix(static_cast<size_t>(written));
  }
  size_ += static_cast<int64_t>(record.size());
}

void EventFile::fail(const char* action, int error) const {
  throw Error(std::string("cannot ") + action + ": " + std::strerror(error), path_,
              error == ENOSPC || error == EDQUOT || error == EFBIG
                  ? "free some space, then train with --resume"
                  : "");
}

}  // namespace memwall
