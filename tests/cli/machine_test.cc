// Every field of a cluster's description reaches the machine of the cost model.
#include "runtime/cli/machine.h"

#include <gtest/gtest.h>

#include "runtime/config/cluster.h"

namespace memwall::test {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

config::Cluster shipped(const std::string& name) {
  return load_cluster(std::string(MEMWALL_SOURCE_DIR) + "/configs/clusters/" + name + ".textproto");
}

TEST(MachineOf, IsWhatTheDescriptionReaches) {
  const Machine m = machine_of(shipped("dgx-h100"), "file");
  EXPECT_EQ(m.name, "file");
  EXPECT_DOUBLE_EQ(m.gemm_flops.fp16, 643.11e12);  // 0.65 of 989.4
  EXPECT_DOUBLE_EQ(m.dram_bandwidth, 2847.5e9);    // 0.85 of 3.35 TB/s
  EXPECT_DOUBLE_EQ(m.link.bandwidth, 360e9);       // 0.8 of 450 GB/s
  EXPECT_DOUBLE_EQ(m.nic.bandwidth, 45e9);         // 0.9 of 400 Gb/s
  EXPECT_EQ(m.memory_bytes, 80'000'000'000);
  EXPECT_EQ(m.devices, 8);
  EXPECT_EQ(m.nics, 8);
}

// Changes each number below `message` in turn, and expects another machine of `cluster`.
void expect_each_counts(config::Cluster& cluster, Message& message, const Machine& before,
                        int& fields) {
  const auto& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      expect_each_counts(cluster, *reflection.MutableMessage(&message, &field), before, fields);
      continue;
    }
    if (field.name() == "name") continue;
    const config::Cluster kept = cluster;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      reflection.SetDouble(&message, &field, reflection.GetDouble(message, &field) / 2);
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
      reflection.SetInt64(&message, &field, reflection.GetInt64(message, &field) + 1);
    } else {
      reflection.SetString(&message, &field, "1GiB");
    }
    EXPECT_NE(machine_of(cluster, "file"), before) << field.full_name();
    ++fields;
    reflection.ClearField(&message, &field);
    cluster.MergeFrom(kept);
    EXPECT_EQ(machine_of(cluster, "file"), before) << field.full_name();
  }
}

TEST(MachineOf, EveryFieldCounts) {
  config::Cluster cluster = shipped("dgx-h100");
  int fields = 0;
  expect_each_counts(cluster, cluster, machine_of(cluster, "file"), fields);
  EXPECT_EQ(fields, 19);
}

}  // namespace
}  // namespace memwall::test
