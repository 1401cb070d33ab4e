// Every field of a cluster's description reaches the machine of the cost model.
#include "runtime/cli/machine.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

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

// Another value of the field, one that a description may have.
void change(Message& message, const FieldDescriptor& field) {
  static const std::map<std::string, std::string> words = {
      {"memory", "1GiB"},           {"op", "copy"},        {"dtype", "f16"},
      {"collective", "all_gather"}, {"algorithm", "ring"}, {"transport", "SHARED_MEMORY"}};
  const auto& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    const double old = reflection.GetDouble(message, &field);
    reflection.SetDouble(&message, &field, old == 0.0 ? 1.0 : old / 2);
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
    // Two ranks, one a node: twice as many still fill nodes.
    reflection.SetInt64(&message, &field, reflection.GetInt64(message, &field) * 2);
  } else {
    reflection.SetString(&message, &field, words.at(field.name()));
  }
}

// Changes each field below `message` in turn, and expects another machine of `cluster`.
void expect_each_counts(const config::Cluster& cluster, Message& message, const Machine& before,
                        int& fields) {
  const auto& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.is_repeated()) {
      ASSERT_GT(reflection.FieldSize(message, &field), 0) << field.full_name();
      expect_each_counts(cluster, *reflection.MutableRepeatedMessage(&message, &field, 0), before,
                         fields);
      continue;
    }
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      expect_each_counts(cluster, *reflection.MutableMessage(&message, &field), before, fields);
      continue;
    }
    if (field.name() == "name") continue;
    const std::unique_ptr<Message> kept(message.New());
    kept->CopyFrom(message);
    change(message, field);
    EXPECT_NE(machine_of(cluster, "file"), before) << field.full_name();
    ++fields;
    message.CopyFrom(*kept);
    EXPECT_EQ(machine_of(cluster, "file"), before) << field.full_name();
  }
}

TEST(MachineOf, EveryFieldCounts) {
  config::Cluster cluster = shipped("dgx-h100");
  config::OpRate& product = *cluster.mutable_device()->add_op_rate();
  product.set_op("gemm");
  product.set_dtype("f32");
  product.set_flops_per_second(1e12);
  product.set_bytes_per_second(1e12);
  config::OpRate::Timed& step = *product.add_timed();
  step.set_flops(int64_t{1} << 30);
  step.set_bytes(int64_t{1} << 20);
  step.set_launches(1);
  step.set_seconds(2e-3);
  config::CollectiveRate& scatter = *cluster.mutable_node()->add_collective_rate();
  scatter.set_collective("reduce_scatter");
  scatter.set_algorithm("pairwise");
  scatter.set_transport("MPI");
  scatter.set_link_bandwidth(1e10);
  scatter.set_link_latency(1e-5);
  scatter.set_nic_bandwidth(1e9);
  scatter.set_nic_latency(1e-5);
  config::CollectiveRate::Timed& round = *scatter.add_timed();
  round.set_ranks(2);
  round.set_ranks_a_node(1);
  round.set_part_bytes(1 << 20);
  round.set_seconds(2e-3);
  int fields = 0;
  expect_each_counts(cluster, cluster, machine_of(cluster, "file"), fields);
  EXPECT_EQ(fields, 41);
}

}  // namespace
}  // namespace memwall::test
