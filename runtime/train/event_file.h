// A run's scalars for TensorBoard: RUN/tensorboard/events.out.tfevents.*, TFRecords of the messages
// of configs/tensorboard.proto.
//
// A TFRecord is a length (8 bytes), the length's checksum (4), the message, its checksum (4),
// little-endian; a checksum is a masked CRC32C (tensorflow/core/lib/io/record_writer.h).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace memwall {

// The curves of one step; values are stored as float.
using EventScalars = std::vector<std::pair<std::string, double>>;

// Of a line of metrics/rank-00000.jsonl. What is not known, such as the utilisation of an unknown
// peak, is left out; a loss that is not finite is shown.
EventScalars scalars_of(const nlohmann::ordered_json& metrics_line);

class EventFile {
 public:
  // Makes `folder` where there is none, cuts from the files in it what follows step
  // `finished_steps`, and begins a new file there. So no step is stored twice, and a TensorBoard
  // that has read further already is told to forget it. Throws Error where the file system refuses.
  EventFile(const std::string& folder, int64_t finished_steps);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // One write(2): once it returns, the step survives the end of this process. A full disk is an
  // Error, and no part of the step stays.
  void append(int64_t step, const EventScalars& scalars);
  const std::string& path() const { return path_; }

 private:
  void append_record(std::string_view message);
  [[noreturn]] void fail(const char* action, int error) const;

  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;  // bytes
};

// The message of one step. `wall_time`: seconds since 1970.
std::string scalar_event(double wall_time, int64_t step, const EventScalars& scalars);
// One TFRecord.
std::string tf_record(std::string_view message);

// The bytes of `file`, the contents of an event file, up to the end of the last whole and undamaged
// record in front of the first one of a step after `last_step`. `holds_scalars`: whether one of
// those kept has a scalar.
int64_t kept_event_bytes(std::string_view file, int64_t last_step, bool& holds_scalars);

}  // namespace memwall
