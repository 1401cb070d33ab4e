// Products with the Hessian, its spectrum and its trace, against the full Hessian that PyTorch
// computed (tests/golden/make_adahessian_golden.py), whole and in shards.
#include "runtime/train/hessian.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "comm/self/self_communicator.h"
#include "runtime/data/dataset.h"
#include "runtime/train/checkpoint.h"
#include "runtime/train/curvature_statistics.h"
#include "runtime/train/lanczos.h"
#include "tests/data/temporary_folder.h"
#include "tests/support/golden_run.h"
#include "tests/support/mpi_world.h"

namespace memwall::test {
namespace {

const std::string kFolder = std::string(MEMWALL_SOURCE_DIR) + "/tests/golden/adahessian";
constexpr int64_t kTime = 16;

struct Golden {
  HuggingFaceFolder weights{kFolder};
  SafetensorsFile curvature{kFolder + "/curvature.safetensors"};
  nlohmann::json json;

  Golden() { std::ifstream(kFolder + "/golden.json") >> json; }
  uint64_t seed() const { return json["seed"]; }
  const nlohmann::json& hessian() const { return json["hessian"]; }

  // The stream that the batches were cut from, as a data file.
  TokenRange tokens() const {
    const TemporaryFolder folder;
    const std::vector<double> inputs = read_all(curvature, "tokens");
    const std::vector<double> targets = read_all(curvature, "targets");
    std::vector<uint16_t> stream(inputs.begin(), inputs.end());
    stream.push_back(static_cast<uint16_t>(targets.back()));
    DatasetSpec spec;
    spec.token_files = {folder.write("tokens.bin", bytes_of(stream))};
    spec.validation_fraction = 0.0;
    spec.seq_length = kTime;
    spec.vocabulary = weights.config().vocab_size;
    return open_dataset(spec).training;
  }
};

const Golden& golden() {
  static const Golden files;
  return files;
}

// The Hessian of the golden model's loss on samples 0 ... windows - 1.
class Curvature {
 public:
  Curvature(Communicator& comm, int64_t windows, int64_t micro_batch,
            CheckpointPolicy checkpointing = {})
      : comm_(comm),
        plan_(compile(Gpt2(golden_spec(golden().weights.config(), DType::kF64, micro_batch, kTime)),
                      settings(comm, checkpointing))),
        executor_(plan_, comm, 1) {
    load_weights(golden().weights, executor_);
    hessian_.emplace(executor_, HessianData{golden().tokens(), windows, micro_batch, kTime},
                     golden().seed());
  }

  const Plan& plan() const { return plan_; }
  Hessian& operator*() { return *hessian_; }
  Hessian* operator->() { return &*hessian_; }

  std::vector<double> shard() const { return std::vector<double>(size()); }
  size_t size() const { return static_cast<size_t>(hessian_->shard()); }

  // A vector of which this rank has a shard, whole and without padding, on every rank.
  std::vector<double> whole(std::span<const double> mine) const {
    std::vector<double> out;
    size_t before = 0;
    for (const Unit& unit : plan_.units) {
      const auto count = static_cast<size_t>(unit.shard(plan_.ranks));
      const auto part = mine.subspan(before, count);
      before += count;
      const std::vector<double> all = comm_.gather_all({part.begin(), part.end()});
      for (const Segment& s : unit.segments) {
        out.insert(out.end(), all.begin() + s.offset, all.begin() + s.offset + s.count);
      }
    }
    return out;
  }

  std::vector<double> signed_product(uint32_t draw) {
    std::vector<double> zhz = shard();
    hessian_->signed_product(draw, zhz);
    return whole(zhz);
  }

  // Sums of a * b by tensor, over all ranks.
  std::vector<double> dots(std::span<const double> a, std::span<const double> b) {
    std::vector<double> out = tensor_dots(plan_.units, plan_.ranks, comm_.rank(), a, b);
    hessian_->sum_over_ranks(out);
    return out;
  }

 private:
  static CompileSettings settings(const Communicator& comm, const CheckpointPolicy& checkpointing) {
    CompileSettings s;
    s.ranks = comm.size();
    s.fabric = {comm.transport(), comm.window_ranks()};
    s.zero_stage = comm.size() > 1 ? 3 : 0;
    s.train = s.evaluate = false;
    s.curvature = true;
    s.direction_seed = static_cast<int64_t>(golden().seed());
    s.checkpointing = checkpointing;
    return s;
  }

  Communicator& comm_;
  Plan plan_;
  Executor executor_;
  std::optional<Hessian> hessian_;
};

// All tensors of "PREFIX.NAME", in the model's order, one behind the other.
std::vector<double> golden_vector(const Curvature& curvature, const std::string& prefix) {
  std::vector<double> out;
  for (const std::string& name : tensor_names(curvature.plan().units)) {
    const std::vector<double> values = read_all(golden().curvature, prefix + "." + name);
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

// This rank's shard of such a vector.
std::vector<double> my_part(const Curvature& curvature, const std::vector<double>& whole) {
  std::vector<double> out(curvature.size());
  const int64_t ranks = curvature.plan().ranks;
  int64_t before = 0, tensors_before = 0;
  for (const Unit& unit : curvature.plan().units) {
    const int64_t first = world().rank() * unit.shard(ranks), count = unit.shard(ranks);
    for (const Segment& s : unit.segments) {
      for (int64_t e = std::max(first, s.offset); e < std::min(first + count, s.offset + s.count);
           ++e) {
        out[static_cast<size_t>(before + e - first)] =
            whole[static_cast<size_t>(tensors_before + e - s.offset)];
      }
      tensors_before += s.count;
    }
    before += count;
  }
  return out;
}

double worst_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0.0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}

// Two windows: the batch that the golden values belong to.
struct OnGoldenBatch : Curvature {
  OnGoldenBatch() : Curvature(world(), 2, 2 / world().size()) {}
};

TEST(Hessian, SignedProductAndGradientAreThoseOfTheFullHessian) {
  OnGoldenBatch curvature;
  EXPECT_EQ(static_cast<size_t>(curvature->dimension()),
            golden_vector(curvature, "product").size());
  std::vector<double> z = curvature.shard(), zhz = curvature.shard();
  curvature->signed_product(1, zhz);
  curvature->signs(1, z);
  EXPECT_EQ(curvature.whole(z), golden_vector(curvature, "z"));
  for (size_t i = 0; i < z.size(); ++i) zhz[i] *= z[i];
  EXPECT_LT(worst_difference(curvature.whole(zhz), golden_vector(curvature, "product")), 1e-11);
  const std::vector<double> gradient = curvature->gradient();
  EXPECT_LT(worst_difference(curvature.whole(gradient), golden_vector(curvature, "gradient")),
            1e-13);
  EXPECT_NEAR(curvature->loss(), golden().json["loss"].get<double>(), 1e-12);
}

// With a vector as its direction: z as numbers, and each unit vector of some.
TEST(Hessian, ProductWithAVectorIsThatOfTheFullHessian) {
  OnGoldenBatch curvature;
  std::vector<double> hv = curvature.shard();
  curvature->product(my_part(curvature, golden_vector(curvature, "z")), hv);
  EXPECT_LT(worst_difference(curvature.whole(hv), golden_vector(curvature, "product")), 1e-11);
  const std::vector<double> diagonal = golden_vector(curvature, "diagonal");
  for (size_t i = 5; i < diagonal.size(); i += 977) {
    std::vector<double> unit(diagonal.size());
    unit[i] = 1.0;
    curvature->product(my_part(curvature, unit), hv);
    EXPECT_NEAR(curvature.whole(hv)[i], diagonal[i], 1e-11) << i;
  }
}

TEST(Hessian, TraceIsThatOfTheFullHessianWithinItsError) {
  OnGoldenBatch curvature;
  const std::vector<double> ones(curvature.size(), 1.0);
  std::vector<double> zhz = curvature.shard();
  std::vector<std::vector<double>> samples;
  for (uint32_t draw = 1; draw <= 100; ++draw) {
    curvature->signed_product(draw, zhz);
    samples.push_back(curvature.dots(zhz, ones));
  }
  const TraceStatistics found = trace_statistics(samples);
  const nlohmann::json& expected = golden().hessian();
  const double root = std::sqrt(static_cast<double>(samples.size()));
  const auto near = [root](const Estimate& estimate, double trace, double deviation,
                           const std::string& name) {
    EXPECT_NEAR(estimate.mean, trace, 4.0 * deviation / root) << name;
    // Its own standard error: of 100 samples, known to some 7 %; long tails allow for more.
    EXPECT_NEAR(estimate.standard_error, deviation / root, 0.5 * deviation / root) << name;
  };
  near(found.whole, expected["trace"], expected["deviation"], "all");
  const std::vector<std::string> names = tensor_names(curvature.plan().units);
  ASSERT_EQ(names.size(), expected["trace_per_tensor"].size());
  for (size_t t = 0; t < names.size(); ++t) {
    near(found.per_tensor[t], expected["trace_per_tensor"][names[t]],
         expected["deviation_per_tensor"][names[t]], names[t]);
  }
}

LanczosResult spectrum_of(Curvature& curvature) {
  LanczosSettings settings;
  settings.dimension = curvature->dimension();
  settings.shard = curvature->shard();
  settings.iterations = 200;
  settings.largest = settings.smallest = 3;
  settings.tolerance = 1e-10;
  return lanczos(
      [&](std::span<const double> v, std::span<double> hv) { curvature->product(v, hv); },
      [&](std::span<double> values) { curvature->sum_over_ranks(values); },
      [&](int64_t number, std::span<double> v) {
        curvature->signs(static_cast<uint32_t>(1000 + number), v);
      },
      settings);
}

TEST(Hessian, EndsOfTheSpectrumAreThoseOfTheFullHessian) {
  OnGoldenBatch curvature;
  const LanczosResult found = spectrum_of(curvature);
  EXPECT_EQ(found.end, LanczosEnd::kConverged);
  EXPECT_LT(found.iterations, 200);
  EXPECT_LT(found.asymmetry, 1e-12);
  const std::vector<std::string> names = tensor_names(curvature.plan().units);
  const auto compare = [&](const std::vector<RitzPair>& pairs, const nlohmann::json& expected) {
    ASSERT_EQ(pairs.size(), expected.size());
    for (size_t i = 0; i < pairs.size(); ++i) {
      const double value = expected[i]["value"];
      EXPECT_TRUE(pairs[i].converged);
      EXPECT_NEAR(pairs[i].value, value, 1e-6 * std::abs(value)) << i;
      const std::vector<double> shares = curvature.dots(pairs[i].vector, pairs[i].vector);
      EXPECT_NEAR(std::accumulate(shares.begin(), shares.end(), 0.0), 1.0, 1e-12);
      for (size_t t = 0; t < names.size(); ++t) {
        EXPECT_NEAR(shares[t], expected[i]["shares"][names[t]].get<double>(), 1e-6)
            << i << ' ' << names[t];
      }
    }
  };
  compare(found.largest, golden().hessian()["largest"]);
  compare(found.smallest, golden().hessian()["smallest"]);
}

struct Everything {
  std::vector<double> signed_product, gradient, product;
  double loss = 0.0;
};
Everything everything(Curvature& curvature) {
  Everything out;
  out.signed_product = curvature.signed_product(7);
  out.gradient = curvature.whole(curvature->gradient());
  out.loss = curvature->loss();
  std::vector<double> v = curvature.shard(), hv = curvature.shard();
  curvature->signs(8, v);
  for (size_t i = 0; i < v.size(); ++i) v[i] *= 0.25;
  curvature->product(v, hv);
  out.product = curvature.whole(hv);
  return out;
}
void expect_near(const Everything& a, const Everything& b, double tolerance) {
  EXPECT_LT(worst_difference(a.signed_product, b.signed_product), tolerance);
  EXPECT_LT(worst_difference(a.gradient, b.gradient), tolerance);
  EXPECT_LT(worst_difference(a.product, b.product), tolerance);
  EXPECT_NEAR(a.loss, b.loss, tolerance);
}

TEST(Hessian, IsThatOfOneRank) {
  for (const int64_t windows : {2, 4}) {
    Curvature mine(world(), windows, 2 / world().size());
    SelfCommunicator self;
    Curvature alone(self, windows, 2);
    expect_near(everything(mine), everything(alone), 1e-9);
  }
}

TEST(Hessian, DoesNotDependOnHowWindowsAreSpread) {
  Curvature at_once(world(), 8, 8 / world().size());
  const Everything expected = everything(at_once);
  for (const int64_t micro_batch : {1, 2}) {
    Curvature spread(world(), 8, micro_batch);
    expect_near(everything(spread), expected, 1e-12);
    // A second product starts over, and is not added to the first.
    expect_near(everything(spread), expected, 1e-12);
  }
  Curvature others(world(), 4, 2);
  EXPECT_GT(worst_difference(everything(others).gradient, expected.gradient), 1e-3);
}

TEST(Hessian, RecomputationChangesNoBit) {
  Curvature kept(world(), 4, 2), recomputed(world(), 4, 2, {Checkpointing::kBlock, {}});
  EXPECT_LT(recomputed.plan().arena_bytes, kept.plan().arena_bytes);
  const Everything a = everything(kept), b = everything(recomputed);
  EXPECT_EQ(a.signed_product, b.signed_product);
  EXPECT_EQ(a.product, b.product);
  EXPECT_EQ(a.gradient, b.gradient);
}

}  // namespace
}  // namespace memwall::test
