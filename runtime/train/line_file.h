// A file of JSON lines that begin with {"step":N, by ascending N.
#pragma once

#include <cstdint>
#include <string>

namespace memwall {

class LineFile {
 public:
  // Opens `path`, or creates it, and cuts what follows the last whole line of a step up to
  // `last_step`. Throws Error where the file system refuses.
  LineFile(std::string path, int64_t last_step);
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  // One write(2): once it returns, the line survives the end of this process. A full disk is an
  // Error, and no part of the line stays.
  void append(const std::string& json);

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;  // bytes
};

}  // namespace memwall
