// Initialisation, control of the step, and the update.
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/base/scalars.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/cpu/launch.h"
#include "runtime/kernels/initialize.h"
#include "runtime/kernels/segments.h"
#include "runtime/kernels/sgd.h"

namespace memwall::cpu {
namespace {

const UnitAttributes& unit_of(const KernelCall& call) {
  return std::get<UnitAttributes>(call.attributes);
}

struct Range {
  int64_t begin, end;
};

// What elements of the unit the first result holds: all, or this rank's shard.
Range range_of(const KernelCall& call) {
  check(call.unit != nullptr, "the kernel needs its unit");
  const int64_t count = call.outputs[0].elements();
  const int64_t parts = unit_of(call).parts;
  check(count * parts == call.unit->padded, "the buffer is not the stated part of its unit");
  const int64_t begin = parts == 1 ? 0 : call.rank * count;
  return {begin, begin + count};
}

double scalar(const double* scalars, Scalar which) {
  return scalars[static_cast<int64_t>(which)];
}

template <class C>
AdamWFactors<C> adamw_factors(const UnitAttributes& a, const double* scalars) {
  const double rate = scalar(scalars, Scalar::kLearningRate);
  const double t = scalar(scalars, Scalar::kUpdates);
  return {.grad_scale = static_cast<C>(scalar(scalars, Scalar::kGradScale)),
          .beta1 = static_cast<C>(a.beta1),
          .one_minus_beta1 = static_cast<C>(1.0 - a.beta1),
          .beta2 = static_cast<C>(a.beta2),
          .one_minus_beta2 = static_cast<C>(1.0 - a.beta2),
          .step = static_cast<C>(rate / (1.0 - std::pow(a.beta1, t))),
          .root_correction2 = static_cast<C>(std::sqrt(1.0 - std::pow(a.beta2, t))),
          .epsilon = static_cast<C>(a.epsilon),
          .keep = static_cast<C>(1.0 - rate * a.weight_decay)};
}

void keep_state(const Tensor& from, const Tensor& to) {
  if (from.data == to.data) return;
  std::memcpy(to.data, from.data, static_cast<size_t>(to.elements() * size_of(to.dtype)));
}

// A skipped step leaves parameters and moments as they are.
bool keeps_state(const KernelCall& call, const double* scalars) {
  if (scalar(scalars, Scalar::kSkip) == 0.0) return false;
  for (size_t i = 0; i < call.outputs.size(); ++i) keep_state(call.inputs[i], call.outputs[i]);
  return true;
}

// All runs of the range in one launch. kernel_of(offset in the buffers, count, decays) is a run's.
template <class KernelOf>
void launch_runs(const KernelCall& call, const KernelOf& kernel_of) {
  using Kernel = decltype(kernel_of(int64_t{}, int64_t{}, bool{}));
  struct Run {
    Kernel kernel;
    int64_t end_tile;  // of the launch, behind its last
  };
  const Range range = range_of(call);
  std::vector<Run> runs;
  int64_t tiles = 0;
  each_run(*call.unit, range.begin, range.end,
           [&](int64_t begin, int64_t end, const Segment* segment) {
             tiles += ceil_div(end - begin, kTile);
             runs.push_back(
                 {kernel_of(begin - range.begin, end - begin, segment != nullptr && segment->decay),
                  tiles});
           });
  launch(call.threads, tiles, kTile, [&](auto& team, int64_t tile) {
    size_t run = 0;
    while (runs[run].end_tile <= tile) ++run;
    runs[run].kernel(team, tile - (run == 0 ? 0 : runs[run - 1].end_tile));
  });
}

// f(S{}, G{}): the types of state and gradient.
template <class F>
void with_update_types(const KernelCall& call, size_t gradient, const F& f) {
  with_result_and_input(call, gradient, [&]<class S, class G>(S s, G g) {
    if constexpr (std::is_same_v<S, Accumulator<S>>) {
      f(s, g);
    } else {
      throw InternalError("the update's state is FP32 or FP64");
    }
  });
}

}  // namespace

void initialize(const KernelCall& call) {
  const Range range = range_of(call);
  with_float_type(call.outputs[0].dtype, [&]<class T>(T) {
    T* const p = call.outputs[0].as<T>();
    each_run(*call.unit, range.begin, range.end,
             [&](int64_t begin, int64_t end, const Segment* segment) {
               T* const to = p + (begin - range.begin);
               const int64_t count = end - begin;
               if (segment != nullptr && segment->init == InitKind::kNormal) {
                 const InitializeNormal<T> kernel{to,
                                                  static_cast<uint64_t>(unit_of(call).seed),
                                                  segment->index,
                                                  segment->init_value,
                                                  begin - segment->offset,
                                                  count};
                 launch_tiles(call.threads, count, kernel);
               } else {
                 const double value = segment == nullptr ? 0.0 : segment->init_value;
                 using C = Accumulator<T>;
                 launch_tiles(call.threads, count, Fill<T, C>{{to}, static_cast<C>(value), count});
               }
             });
  });
}

// Clipping as torch.nn.utils.clip_grad_norm_ does it.
void step_control(const KernelCall& call) {
  constexpr double kClipEpsilon = 1e-6;
  const auto& a = std::get<StepControlAttributes>(call.attributes);
  const double* const reduced = call.inputs[0].as<const double>();
  double* const scalars = call.outputs[0].as<double>();
  if (scalars != call.inputs[1].data) {
    std::copy_n(call.inputs[1].as<const double>(), kScalarCount, scalars);
  }
  const auto set = [&](Scalar which, double value) {
    scalars[static_cast<int64_t>(which)] = value;
  };
  double squares = 0.0;
  for (int64_t i = 0; i < a.norm_parts; ++i) squares += reduced[2 + i];
  const double loss_scale = scalar(scalars, Scalar::kLossScale);
  const double norm = std::sqrt(squares) / loss_scale;
  const double clip = a.grad_clip > 0.0 ? std::min(1.0, a.grad_clip / (norm + kClipEpsilon)) : 1.0;
  set(Scalar::kLoss, reduced[0] * a.loss_factor);
  set(Scalar::kStopAgreed, reduced[1]);
  set(Scalar::kGradNorm, norm);
  set(Scalar::kGradScale, clip / loss_scale);
  set(Scalar::kSkip, std::isfinite(norm) ? 0.0 : 1.0);
}

void adamw(const KernelCall& call) {
  const double* const scalars = call.inputs[4].as<const double>();
  if (keeps_state(call, scalars)) return;
  with_update_types(call, 3, [&]<class S, class G>(S, G) {
    const auto factors = adamw_factors<S>(unit_of(call), scalars);
    launch_runs(call, [&](int64_t at, int64_t count, bool decays) {
      AdamW<S, G, S> kernel{{call.inputs[0].as<const S>() + at},
                            {call.inputs[1].as<const S>() + at},
                            {call.inputs[2].as<const S>() + at},
                            {call.inputs[3].as<const G>() + at},
                            {call.outputs[0].as<S>() + at},
                            {call.outputs[1].as<S>() + at},
                            {call.outputs[2].as<S>() + at},
                            factors,
                            count};
      if (!decays) kernel.k.keep = S{1};
      return kernel;
    });
  });
}

void sgd(const KernelCall& call) {
  const bool has_momentum = call.outputs.size() == 2;
  const size_t gradient = has_momentum ? 2 : 1;
  const double* const scalars = call.inputs[gradient + 1].as<const double>();
  if (keeps_state(call, scalars)) return;
  with_update_types(call, gradient, [&]<class S, class G>(S, G) {
    const UnitAttributes& a = unit_of(call);
    const SgdFactors<S> factors{.grad_scale = static_cast<S>(scalar(scalars, Scalar::kGradScale)),
                                .momentum = static_cast<S>(a.momentum),
                                .rate = static_cast<S>(scalar(scalars, Scalar::kLearningRate)),
                                .decay = static_cast<S>(a.weight_decay)};
    launch_runs(call, [&](int64_t at, int64_t count, bool decays) {
      Sgd<S, G, S> kernel{{call.inputs[0].as<const S>() + at},
                          {nullptr},
                          {call.inputs[gradient].as<const G>() + at},
                          {call.outputs[0].as<S>() + at},
                          {nullptr},
                          factors,
                          count};
      if (has_momentum) {
        kernel.m_in = {call.inputs[1].as<const S>() + at};
        kernel.m_out = {call.outputs[1].as<S>() + at};
      }
      if (!decays) kernel.k.decay = S{0};
      return kernel;
    });
  });
}

}  // namespace memwall::cpu
