// Products with the Hessian of the mean loss over some samples, by the programs hessian_signs and
// hessian_vector of a plan: exact, in one pass with the gradient.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/scalars.h"
#include "runtime/data/sampler.h"
#include "runtime/exec/executor.h"

namespace memwall {

// Which samples: 0 ... windows - 1, as SEQUENTIAL sampling has them; dropout is off. `windows` is a
// multiple of ranks * micro_batch.
struct HessianData {
  TokenRange tokens;
  int64_t windows = 0, micro_batch = 1, seq_length = 0;
};

// Vectors are this rank's shards of all units, one behind the other, with padding (zero).
// Everything here is collective.
class Hessian {
 public:
  // The executor's plan was compiled with CompileSettings::curvature, and holds the weights.
  // InternalError where it has other sizes.
  Hessian(Executor& executor, const HessianData& data, uint64_t direction_seed);

  int64_t dimension() const;                // parameters
  int64_t shard() const { return shard_; }  // elements of this rank, padding included

  // hv = H v.
  void product(std::span<const double> v, std::span<double> hv);
  // z * (H z) of the signs of a draw; leaves loss and gradient too.
  void signed_product(uint32_t draw, std::span<double> zhz);
  std::vector<double> gradient() const;  // of the last signed_product
  double loss() const { return loss_; }  // likewise: mean, over all ranks

  // z of a draw.
  void signs(uint32_t draw, std::span<double> z) const;
  // The same bits on all ranks, added in rank order.
  void sum_over_ranks(std::span<double> values) const;

 private:
  void run(std::string_view program);
  void write(SlotKind kind, std::span<const double> v);
  void read(SlotKind kind, std::span<double> out) const;
  double& scalar(Scalar which) const;
  // Where this rank's shard of unit u begins in the unit.
  int64_t begin(size_t unit) const;

  Executor& executor_;
  Sampler sampler_;
  BatchLayout layout_;
  uint64_t seed_;
  int64_t seq_length_, shard_ = 0;
  double loss_ = 0.0;
  std::vector<int64_t> samples_;
};

}  // namespace memwall
