#include "runtime/train/hessian.h"

#include <algorithm>

#include "runtime/base/rng.h"
#include "runtime/kernels/segments.h"
#include "runtime/train/elements.h"

namespace memwall {

Hessian::Hessian(Executor& executor, const HessianData& data, uint64_t direction_seed)
    : executor_(executor),
      sampler_(data.tokens, Sampling::kSequential, data.seq_length, 0),
      layout_{executor.comm().size(), data.micro_batch, data.windows},
      seed_(direction_seed),
      seq_length_(data.seq_length),
      samples_(static_cast<size_t>(data.micro_batch)) {
  check(data.windows > 0 && data.windows % (layout_.ranks * data.micro_batch) == 0,
        "the windows do not fill the micro-batches");
  check(executor.slot(SlotKind::kTokens).elements() == data.micro_batch * data.seq_length,
        "the plan has other sequences");
  for (const Unit& unit : executor.plan().units) shard_ += unit.shard(executor.plan().ranks);
}

int64_t Hessian::dimension() const {
  return executor_.plan().parameters;
}

double& Hessian::scalar(Scalar which) const {
  return executor_.slot(SlotKind::kScalars).as<double>()[static_cast<int64_t>(which)];
}

int64_t Hessian::begin(size_t unit) const {
  const Plan& plan = executor_.plan();
  return executor_.comm().rank() * plan.units[unit].shard(plan.ranks);
}

// One micro-step after the other, the first of which overwrites.
void Hessian::run(std::string_view program) {
  scalar(Scalar::kSeed) = 1.0 / static_cast<double>(layout_.global_batch * seq_length_);
  scalar(Scalar::kLossScale) = scalar(Scalar::kSignScale) = scalar(Scalar::kHessianFactor) = 1.0;
  for (int64_t a = 0; a < layout_.micro_steps(); ++a) {
    fill_micro_batch(sampler_, layout_, 0, a, executor_.comm().rank(),
                     elements_of<int32_t>(executor_.slot(SlotKind::kTokens)),
                     elements_of<int32_t>(executor_.slot(SlotKind::kTargets)), samples_);
    for (SlotKind kind : {SlotKind::kScalars, SlotKind::kTokens, SlotKind::kTargets}) {
      executor_.send(kind);
    }
    executor_.run(executor_.plan().program(program), a);
  }
}

void Hessian::write(SlotKind kind, std::span<const double> v) {
  auto from = v.begin();
  for (size_t u = 0; u < executor_.plan().units.size(); ++u) {
    const Tensor slot = executor_.slot(kind, static_cast<int64_t>(u));
    for (int64_t i = 0; i < slot.elements(); ++i, ++from) {
      if (slot.dtype == DType::kF64) {
        slot.as<double>()[i] = *from;
      } else {
        slot.as<float>()[i] = static_cast<float>(*from);
      }
    }
    executor_.send(slot);
  }
}

void Hessian::read(SlotKind kind, std::span<double> out) const {
  auto to = out.begin();
  for (size_t u = 0; u < executor_.plan().units.size(); ++u) {
    const Tensor slot = executor_.fetch(kind, static_cast<int64_t>(u));
    for (int64_t i = 0; i < slot.elements(); ++i, ++to) {
      *to = slot.dtype == DType::kF64 ? slot.as<double>()[i]
                                      : static_cast<double>(slot.as<float>()[i]);
    }
  }
}

void Hessian::product(std::span<const double> v, std::span<double> hv) {
  check(static_cast<int64_t>(v.size()) == shard_ && hv.size() == v.size(), "a vector's size");
  write(SlotKind::kVector, v);
  run(kHessianVector);
  read(SlotKind::kCurvature, hv);
}

void Hessian::signed_product(uint32_t draw, std::span<double> zhz) {
  check(static_cast<int64_t>(zhz.size()) == shard_, "a vector's size");
  scalar(Scalar::kDraw) = static_cast<double>(draw);
  run(kHessianSigns);
  read(SlotKind::kCurvature, zhz);
  std::vector<double> loss{executor_.fetch(SlotKind::kLossSum).as<double>()[0]};
  sum_over_ranks(loss);
  loss_ = loss[0] / static_cast<double>(layout_.global_batch * seq_length_);
}

std::vector<double> Hessian::gradient() const {
  std::vector<double> out(static_cast<size_t>(shard_));
  read(SlotKind::kGradient, out);
  return out;
}

void Hessian::signs(uint32_t draw, std::span<double> z) const {
  std::fill(z.begin(), z.end(), 0.0);
  const Plan& plan = executor_.plan();
  size_t before = 0;
  for (size_t u = 0; u < plan.units.size(); ++u) {
    const int64_t first = begin(u), count = plan.units[u].shard(plan.ranks);
    each_run(plan.units[u], first, first + count,
             [&](int64_t from, int64_t to, const Segment* segment) {
               if (segment == nullptr) return;
               for (int64_t e = from; e < to; ++e) {
                 z[before + static_cast<size_t>(e - first)] = random_sign(
                     seed_, segment->index, static_cast<uint64_t>(e - segment->offset), draw);
               }
             });
    before += static_cast<size_t>(count);
  }
}

void Hessian::sum_over_ranks(std::span<double> values) const {
  const size_t n = values.size();
  const std::vector<double> all = executor_.comm().gather_all({values.begin(), values.end()});
  std::fill(values.begin(), values.end(), 0.0);
  for (size_t i = 0; i < all.size(); ++i) values[i % n] += all[i];
}

}  // namespace memwall
