// Descriptions of clusters: those that are shipped, and what a wrong one is told.
#include "runtime/config/cluster.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "runtime/base/error.h"
#include "tests/config/config_fixture.h"
#include "tests/data/temporary_folder.h"

namespace memwall::test {
namespace {

namespace fs = std::filesystem;

// Each field stands on a line of its own: the tests name the lines.
constexpr const char* kSmall =
    "device {\n"                                // 1
    "  peak_flops { fp32: 1e12 fp16: 4e12 }\n"  // 2
    "  gemm_fraction: 0.5\n"                    // 3
    "  vector_flops: 1e12\n"                    // 4
    "  dram_bandwidth: 1e11\n"                  // 5
    "  dram_fraction: 0.8\n"                    // 6
    "  launch_seconds: 0\n"                     // 7
    "  memory: \"16GiB\"\n"                     // 8
    "}\n"                                       // 9
    "node {\n"                                  // 10
    "  devices: 4\n"                            // 11
    "  link_bandwidth: 1e10\n"                  // 12
    "  link_fraction: 1\n"                      // 13
    "  link_latency: 1e-6\n"                    // 14
    "  nics: 1\n"                               // 15
    "  nic_bandwidth: 1e9\n"                    // 16
    "  nic_fraction: 0.9\n"                     // 17
    "  nic_latency: 1e-5\n"                     // 18
    "}\n";                                      // 19

class ClusterFile : public testing::Test {
 protected:
  config::Cluster load(const std::string& from = "", const std::string& to = "") {
    std::string text = kSmall;
    const size_t at = text.find(from);
    check(at != std::string::npos, "the text to replace", from);
    std::ofstream(file_, std::ios::binary) << text.replace(at, from.size(), to);
    return load_cluster(file_);
  }
  // The message, the file's folder taken off; "" for none.
  std::string error_of(const std::string& from, const std::string& to) {
    return input_error_of(file_, [&] { load(from, to); });
  }

 private:
  TemporaryFolder folder_;
  std::string file_ = folder_.at("small.textproto");
};

TEST_F(ClusterFile, DefaultsAreFilledIn) {
  const config::Cluster cluster = load();
  EXPECT_EQ(cluster.network().efficiency(), 1.0);
  EXPECT_EQ(cluster.device().name(), "device");
  EXPECT_EQ(cluster.device().launch_seconds(), 0.0);
}

TEST_F(ClusterFile, WhatIsShippedIsValidAndNamesItsSources) {
  int files = 0;
  for (const auto& entry :
       fs::directory_iterator(fs::path(MEMWALL_SOURCE_DIR) / "configs/clusters")) {
    SCOPED_TRACE(entry.path().string());
    ++files;
    EXPECT_NO_THROW(load_cluster(entry.path().string()));
    // Every line with a number has a comment, or stands below one.
    std::ifstream file(entry.path());
    std::string line, before;
    while (std::getline(file, line)) {
      const bool has_number = line.find_first_of("0123456789") != std::string::npos &&
                              line.find(": ") != std::string::npos && line[0] == ' ';
      const bool is_a_count = line.find("devices:") != std::string::npos ||
                              line.find("nics:") != std::string::npos ||
                              line.find("name:") != std::string::npos;
      if (has_number && !is_a_count && line.find('#') == std::string::npos) {
        EXPECT_NE(before.find('#'), std::string::npos) << line;
      }
      before = line;
    }
  }
  EXPECT_EQ(files, 8);
}

TEST_F(ClusterFile, WrongFieldsAreNamedWithTheirLine) {
  EXPECT_EQ(error_of("devices", "gpus"),
            "small.textproto:11: node.gpus: no such field (allowed: devices, link_bandwidth, "
            "link_fraction, link_latency, nics, nic_bandwidth, nic_fraction, nic_latency, "
            "collective_rate)");
  EXPECT_EQ(error_of("link_bandwidth: 1e10", "link_bandwidth: 0"),
            "small.textproto:12: node.link_bandwidth: 0 is out of range (allowed: above 0)");
  EXPECT_EQ(error_of("nic_bandwidth: 1e9", "nic_bandwidth: 0"),
            "small.textproto:16: node.nic_bandwidth: 0 is out of range (allowed: above 0)");
  EXPECT_EQ(error_of("dram_bandwidth: 1e11", "dram_bandwidth: -1"),
            "small.textproto:5: device.dram_bandwidth: -1 is out of range (allowed: above 0)");
  EXPECT_EQ(error_of("fp32: 1e12", "fp32: nan"),
            "small.textproto:2: device.peak_flops.fp32: nan is out of range (allowed: above 0)");
  EXPECT_EQ(error_of("gemm_fraction: 0.5", "gemm_fraction: 1.5"),
            "small.textproto:3: device.gemm_fraction: 1.5 is out of range (allowed: above 0, at "
            "most 1)");
  EXPECT_TRUE(error_of("16GiB", "sixteen")
                  .starts_with("small.textproto:8: device.memory: \"sixteen\" is not a size"));
  EXPECT_EQ(error_of("devices: 4", "devices: many"),
            "small.textproto:11: node.devices: expected integer, got: many (allowed: an integer)");
  EXPECT_EQ(error_of("  vector_flops: 1e12\n", ""),
            "small.textproto:1: device.vector_flops: is missing (allowed: a number)");
  EXPECT_EQ(error_of("  peak_flops { fp32: 1e12 fp16: 4e12 }\n", ""),
            "small.textproto:1: device.peak_flops: is missing (allowed: fp64, fp32, fp16, bf16: at "
            "least one)");
}

TEST_F(ClusterFile, NodesAreJoinedOrAlone) {
  EXPECT_EQ(error_of("  nic_latency: 1e-5\n", ""),
            "small.textproto:10: node.nic_latency: is missing (allowed: a number)");
  EXPECT_EQ(error_of("nics: 1\n  nic_bandwidth: 1e9\n  nic_fraction: 0.9\n  nic_latency: 1e-5",
                     "nics: 0"),
            "");
  EXPECT_EQ(error_of("nics: 1\n  nic_bandwidth: 1e9\n  nic_fraction: 0.9\n", "nics: 0\n"),
            "small.textproto:16: node.nic_latency: has no effect with node.nics 0 (allowed: leave "
            "it out)");
}

TEST_F(ClusterFile, AMissingFileIsNamed) {
  try {
    load_cluster("none.textproto");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "none.textproto: cannot read the cluster (name a file, as "
                 "configs/clusters/*.textproto)");
  }
}

}  // namespace
}  // namespace memwall::test
