// What the CUDA module shows to the program, and the program does not need to start.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace memwall {
namespace {

std::string output_of(const std::string& command) {
  std::string out;
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return out;
  std::array<char, 4096> buffer;
  while (const size_t read = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    out.append(buffer.data(), read);
  }
  EXPECT_EQ(pclose(pipe), 0) << command;
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(CudaModule, ExportsItsEntryAlone) {
  const auto lines = lines_of(output_of("nm -D --defined-only --format=posix " MEMWALL_MODULE));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].substr(0, lines[0].find(' ')), "memwall_gpu_module");
}

// The same generated file twice in one process aborts.
TEST(CudaModule, HoldsNoProtobuf) {
  const std::string all = output_of("nm -C -D " MEMWALL_MODULE " && nm -C " MEMWALL_MODULE);
  EXPECT_EQ(all.find("google::protobuf"), std::string::npos);
  EXPECT_NE(all.find("memwall::"), std::string::npos);  // it was looked at
}

TEST(Program, NeedsNoCudaLibrary) {
  const std::string needed = output_of("readelf -d " MEMWALL_PROGRAM " | grep NEEDED");
  EXPECT_NE(needed.find("libmpi"), std::string::npos);
  for (const char* library : {"libcud", "libcublas", "libnccl"}) {
    EXPECT_EQ(needed.find(library), std::string::npos) << library;
  }
}

TEST(CudaModule, NeedsThoseOfCuda) {
  const std::string needed = output_of("readelf -d " MEMWALL_MODULE " | grep NEEDED");
  for (const char* library : {"libcudart.so", "libcublasLt.so", "libnccl.so"}) {
    EXPECT_NE(needed.find(library), std::string::npos) << library;
  }
  // The driver's library is loaded by the runtime, so that the module opens without it.
  EXPECT_EQ(needed.find("libcuda.so"), std::string::npos);
}

}  // namespace
}  // namespace memwall
