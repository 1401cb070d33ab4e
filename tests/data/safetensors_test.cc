// The safetensors format: round trips, conversions, and damaged files.
#include "runtime/data/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/data/half.h"
#include "tests/data/temporary_folder.h"

namespace memwall {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  return bytes_of(std::vector<uint64_t>{header.size()}) + header + data;
}

template <class T>
std::vector<T> all_of(const WeightSource& file, std::string_view name) {
  std::vector<T> values(static_cast<size_t>(file.shape(name).elements()));
  file.read(name, 0, std::span<T>(values));
  return values;
}

TEST(Safetensors, RoundTripInBothPrecisions) {
  const TemporaryFolder folder;
  const std::vector<float> f{1.5f,
                             -0.0f,
                             std::numeric_limits<float>::denorm_min(),
                             3e38f,
                             std::numeric_limits<float>::infinity(),
                             0.1f};
  const std::vector<double> d{0.1, -1e300, 5e-324};
  SafetensorsWriter writer(folder.at("x"), {{"b", DType::kF32, {2, 3}},
                                            {"a", DType::kF64, {3}},
                                            {"empty", DType::kF32, {0, 4}},
                                            {"scalar", DType::kF32, {}},
                                            {"rounded", DType::kF32, {1}},
                                            {"widened", DType::kF64, {1}}});
  EXPECT_FALSE(std::filesystem::exists(folder.at("x")));
  writer.append("b", std::span(f).first(1));
  writer.append("scalar", std::vector<float>{7.0f});
  writer.append("a", d);
  writer.append("b", std::span(f).subspan(1));
  writer.append("rounded", std::vector<double>{0.1});
  writer.append("widened", std::vector<float>{0.1f});
  writer.finish();
  EXPECT_EQ(folder.files(), std::vector<std::string>{"x"});

  const SafetensorsFile file(folder.at("x"));
  EXPECT_EQ(file.tensors().size(), 6u);
  EXPECT_EQ(file.shape("b"), (Shape{2, 3}));
  EXPECT_EQ(file.shape("scalar"), Shape{});
  EXPECT_EQ(file.shape("empty").elements(), 0);
  EXPECT_EQ(bytes_of(all_of<float>(file, "b")), bytes_of(f));
  EXPECT_EQ(bytes_of(all_of<double>(file, "a")), bytes_of(d));
  EXPECT_EQ(all_of<double>(file, "rounded")[0], 0.1f);
  EXPECT_EQ(all_of<double>(file, "widened")[0], 0.1f);
  EXPECT_EQ(all_of<float>(file, "a")[0], 0.1f);
  std::vector<float> part(2);
  file.read("b", 3, std::span(part));
  EXPECT_EQ(part, (std::vector<float>{f[3], f[4]}));
  EXPECT_THROW(file.read("b", 5, std::span(part)), InternalError);
  EXPECT_FALSE(file.has("c"));
  expect_input_error([&] { file.shape("c"); }, {folder.at("x"), "no tensor 'c'"});
}

TEST(Safetensors, FilesAreDeterministicAlignedAndAsSpecified) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, std::vector<SafetensorsSpec> specs) {
    SafetensorsWriter writer(folder.at(name), specs);
    for (const auto& spec : specs) {
      writer.append(spec.name,
                    std::vector<float>(static_cast<size_t>(spec.shape.elements()), 2.0f));
    }
    writer.finish();
    return contents_of(folder.at(name));
  };
  const SafetensorsSpec a{"a", DType::kF32, {3}}, b{"b", DType::kF32, {2, 2}};
  const SafetensorsSpec wide{"z", DType::kF64, {1}};
  const std::string file = write("1", {b, a, wide});
  EXPECT_EQ(file, write("2", {wide, a, b}));

  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(file.size(), 8 + header_bytes + 8 + 12 + 16);
  const auto header = nlohmann::json::parse(file.substr(8, header_bytes));
  EXPECT_EQ(header, nlohmann::json::parse(R"({
    "__metadata__": {"format": "pt"},
    "z": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
    "a": {"dtype": "F32", "shape": [3], "data_offsets": [8, 20]},
    "b": {"dtype": "F32", "shape": [2, 2], "data_offsets": [20, 36]}})"));
}

TEST(Safetensors, HalvesConvertExactly) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int sign = bits & 0x8000u ? -1 : 1;
    const int exponent = static_cast<int>(bits >> 10 & 31),
              fraction = static_cast<int>(bits & 1023);
    const float value = f16_to_float(half);
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(value), fraction != 0);
      ASSERT_EQ(std::isinf(value), fraction == 0);
    } else {
      const double expected =
          exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      ASSERT_EQ(value, sign * expected) << bits;
    }
    ASSERT_EQ(std::signbit(value), sign < 0);
  }
  EXPECT_EQ(bf16_to_float(0x3F80), 1.0f);
  EXPECT_EQ(bf16_to_float(0xC049), -3.140625f);
}

TEST(Safetensors, ReadsSixteenBitTensorsFromAnyOffset) {
  const TemporaryFolder folder;
  const std::string header = R"({"pad":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
    "half":{"dtype":"F16","shape":[3],"data_offsets":[1,7]},
    "brain":{"dtype":"BF16","shape":[2],"data_offsets":[7,11]}})";
  const std::string data = "p" + bytes_of(std::vector<uint16_t>{0x3C00, 0x3555, 0xC000}) +
                           bytes_of(std::vector<uint16_t>{0x3F80, 0x4040});
  const SafetensorsFile file(folder.write("x", file_of(header, data)));
  EXPECT_EQ(all_of<float>(file, "half"), (std::vector<float>{1.0f, 0x1.554p-2f, -2.0f}));
  EXPECT_EQ(all_of<double>(file, "brain"), (std::vector<double>{1.0, 3.0}));
  expect_input_error([&] { all_of<float>(file, "pad"); }, {"'pad'", "U8"});
}

TEST(Safetensors, DamagedHeadersAreRefused) {
  const TemporaryFolder folder;
  const std::string four(4, '\0'), eight(8, '\0');
  const auto expect_refused = [&](const std::string& contents, const std::string& reason) {
    const std::string path = folder.write("x", contents);
    expect_input_error([&] { SafetensorsFile{path}; }, {path, reason});
  };
  const auto tensor = [](const std::string& dtype, const std::string& shape,
                         const std::string& offsets) {
    return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
           offsets + "}}";
  };
  expect_refused("", "0 bytes long");
  expect_refused("1234567", "7 bytes long");
  expect_refused(bytes_of(std::vector<uint64_t>{100}) + "{}",
                 "header of 100 bytes in a file of 10");
  expect_refused(bytes_of(std::vector<uint64_t>{UINT64_MAX}) + "{}",
                 "header of 18446744073709551615");
  expect_refused(file_of("{\"t\":", ""), "not JSON at byte");
  expect_refused(file_of("[]", ""), "no JSON object");
  expect_refused(file_of(tensor("F8_E4M3", "[4]", "[0,4]"), four), "'t': unknown dtype 'F8_E4M3'");
  expect_refused(file_of(tensor("F32", "[1]", "[0]"), four), "data_offsets [begin, end] are due");
  expect_refused(file_of(R"({"t":{"dtype":"F32","shape":[1]}})", four), "data_offsets");
  expect_refused(file_of(R"({"t":5})", four), "'t'");
  expect_refused(file_of(tensor("F32", "[-1]", "[0,4]"), four), "-1 is no size");
  expect_refused(file_of(tensor("F32", "[1.5]", "[0,4]"), four), "1.5 is no size");
  expect_refused(file_of(tensor("F32", "[1]", "[0,-4]"), four), "-4 is no size");
  expect_refused(file_of(tensor("F32", "[2]", "[0,4]"), four),
                 "takes 8 bytes, its offsets are [0, 4)");
  expect_refused(file_of(tensor("F32", "[1]", "[4,0]"), four), "its offsets are [4, 0)");
  expect_refused(file_of(tensor("F32", "[4294967296,4294967296]", "[0,4]"), four), "overflows");
  expect_refused(file_of(tensor("F32", "[1,1,1,1,1]", "[0,4]"), four), "four dimensions");
  expect_refused(file_of(tensor("F32", "[2]", "[0,8]"), four),
                 "'t': ends at byte 8 of the data, the file holds 4");
  expect_refused(file_of(tensor("F32", "[1]", "[0,4]"), eight), "4 bytes follow");
  expect_refused(file_of(tensor("F32", "[1]", "[4,8]"), eight), "bytes [0, 4) of the data");
}

TEST(Safetensors, OverlapsAndDoublesAreRefused) {
  const TemporaryFolder folder;
  const std::string t = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string u = R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})";
  const auto open = [&](const std::string& header) {
    return [path = folder.write("x", file_of(header, std::string(12, '\0')))] {
      SafetensorsFile{path};
    };
  };
  expect_input_error(open(R"({"t":)" + t + R"(,"u":)" + u + "}"), {"'t' and 'u' overlap"});
  expect_input_error(open(R"({"t":)" + t + R"(,"t":)" + u + "}"), {"'t' stands twice"});
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  SafetensorsWriter writer(folder.at("whole"), {{"t", DType::kF32, {5}}});
  writer.append("t", std::vector<float>(5, 1.0f));
  writer.finish();
  const std::string whole = contents_of(folder.at("whole"));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut", whole.substr(0, size));
    expect_input_error([&] { SafetensorsFile{path}; }, {path});
  }
}

TEST(SafetensorsWriter, UnfinishedLeavesNothingAndTheOldFileStays) {
  const TemporaryFolder folder;
  folder.write("x", "old");
  {
    SafetensorsWriter writer(folder.at("x"), {{"a", DType::kF32, {1}}, {"t", DType::kF32, {2}}});
    writer.append("a", std::vector<float>{1.0f});
    writer.append("t", std::vector<float>{1.0f});
    EXPECT_THROW(writer.finish(), InternalError);
    EXPECT_THROW(writer.append("t", std::vector<float>{1.0f, 2.0f}), InternalError);
    EXPECT_THROW(writer.append("u", std::vector<float>{1.0f}), InternalError);
  }
  EXPECT_EQ(folder.files(), std::vector<std::string>{"x"});
  EXPECT_EQ(contents_of(folder.at("x")), "old");
  EXPECT_THROW(SafetensorsWriter(folder.at("none/x"), {}), Error);
}

// A limit on the size of files stands for a full disk: both fail where blocks are taken.
TEST(SafetensorsWriter, AFullDiskIsOneClearErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    SafetensorsWriter(folder.at("x"), {{"t", DType::kF32, {1 << 20}}});
  } catch (const Error& error) {
    message = error.what();
    EXPECT_EQ(error.code(), ExitCode::kFailed);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_NE(message.find(folder.at("x") + ": cannot reserve"), std::string::npos) << message;
  EXPECT_TRUE(folder.files().empty());
}

}  // namespace
}  // namespace memwall
