// Initialisation, control of the step, and the update.
#include <cmath>
#include <cstring>

#include "runtime/base/averaging.h"
#include "runtime/kernels/adahessian.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/cpu/unit_runs.h"
#include "runtime/kernels/initialize.h"
#include "runtime/kernels/sgd.h"

namespace memwall::cpu {
namespace {

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

template <class C>
AdaHessianFactors<C> adahessian_factors(const UnitAttributes& a, const double* scalars) {
  const double rate = scalar(scalars, Scalar::kLearningRate);
  const double correction1 = 1.0 - std::pow(a.beta1, scalar(scalars, Scalar::kUpdates));
  const double correction2 = 1.0 - std::pow(a.beta2, scalar(scalars, Scalar::kHessianUpdates));
  return {.grad_scale = static_cast<C>(scalar(scalars, Scalar::kGradScale)),
          .hessian_scale = static_cast<C>(scalar(scalars, Scalar::kHessianFactor)),
          .beta1 = static_cast<C>(a.beta1),
          .one_minus_beta1 = static_cast<C>(1.0 - a.beta1),
          .beta2 = static_cast<C>(a.beta2),
          .one_minus_beta2 = static_cast<C>(1.0 - a.beta2),
          .step = static_cast<C>(rate / correction1),
          .root_correction2 = static_cast<C>(std::pow(std::sqrt(correction2), a.hessian_power)),
          .epsilon = static_cast<C>(a.epsilon),
          .keep = static_cast<C>(1.0 - rate * a.weight_decay),
          .power = a.hessian_power};
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

bool decays(const Segment* segment) {
  return segment != nullptr && segment->decay;
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
  const Range range = range_of(call, call.outputs[0]);
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
  double trace = 0.0;
  for (int64_t i = 0; i < a.trace_parts; ++i) trace += reduced[2 + a.norm_parts + i];
  const double loss_scale = scalar(scalars, Scalar::kLossScale);
  const double norm = std::sqrt(squares) / loss_scale;
  const double clip = a.grad_clip > 0.0 ? std::min(1.0, a.grad_clip / (norm + kClipEpsilon)) : 1.0;
  set(Scalar::kLoss, reduced[0] * a.loss_factor);
  set(Scalar::kStopAgreed, reduced[1]);
  set(Scalar::kGradNorm, norm);
  set(Scalar::kGradScale, clip / loss_scale);
  set(Scalar::kSkip, std::isfinite(norm) && std::isfinite(trace) ? 0.0 : 1.0);
  if (a.trace_parts > 0) {
    set(Scalar::kTrace, trace * scalar(scalars, Scalar::kHessianFactor));
  }
}

void adamw(const KernelCall& call) {
  const double* const scalars = call.inputs[4].as<const double>();
  if (keeps_state(call, scalars)) return;
  with_update_types(call, 3, [&]<class S, class G>(S, G) {
    const auto factors = adamw_factors<S>(unit_of(call), scalars);
    const Range range = range_of(call, call.outputs[0]);
    launch_runs(call, range, [&](int64_t begin, int64_t end, const Segment* segment) {
      const int64_t at = begin - range.begin;
      AdamW<S, G, S> kernel{{call.inputs[0].as<const S>() + at},
                            {call.inputs[1].as<const S>() + at},
                            {call.inputs[2].as<const S>() + at},
                            {call.inputs[3].as<const G>() + at},
                            {call.outputs[0].as<S>() + at},
                            {call.outputs[1].as<S>() + at},
                            {call.outputs[2].as<S>() + at},
                            factors,
                            end - begin};
      if (!decays(segment)) kernel.k.keep = S{1};
      return kernel;
    });
  });
}

void adahessian(const KernelCall& call) {
  const bool measured = call.outputs.size() == 3;
  const size_t averages = 4;  // the input that holds h, or the scalars
  const double* const scalars = call.inputs[measured ? 5 : 4].as<const double>();
  if (keeps_state(call, scalars)) return;
  with_update_types(call, 3, [&]<class S, class G>(S, G) {
    const UnitAttributes& a = unit_of(call);
    const auto factors = adahessian_factors<S>(a, scalars);
    const Range range = range_of(call, call.outputs[0]);
    int64_t entries = 0;  // of the runs so far
    launch_runs(call, range, [&](int64_t begin, int64_t end, const Segment* segment) {
      const int64_t at = begin - range.begin;
      AdaHessian<S, G, S> kernel{.p_in = {call.inputs[0].as<const S>() + at},
                                 .m_in = {call.inputs[1].as<const S>() + at},
                                 .s_in = {call.inputs[2].as<const S>() + at},
                                 .g_in = {call.inputs[3].as<const G>() + at},
                                 .h_in = {nullptr},
                                 .p_out = {call.outputs[0].as<S>() + at},
                                 .m_out = {call.outputs[1].as<S>() + at},
                                 .s_out = {nullptr},
                                 .k = factors,
                                 .count = end - begin};
      if (!decays(segment)) kernel.k.keep = S{1};
      if (measured) kernel.s_out = {call.outputs[2].as<S>() + at};
      if (measured && segment != nullptr) {
        kernel.h_in = {call.inputs[averages].as<const S>() + entries};
        kernel.entry_elements = entry_elements(*segment, a.averaging_block);
        kernel.lead = (begin - segment->offset) % kernel.entry_elements;
        entries += averaged_entries(*call.unit, begin, end, a.averaging_block);
      }
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
    const Range range = range_of(call, call.outputs[0]);
    launch_runs(call, range, [&](int64_t begin, int64_t end, const Segment* segment) {
      const int64_t at = begin - range.begin;
      Sgd<S, G, S> kernel{{call.inputs[0].as<const S>() + at},
                          {nullptr},
                          {call.inputs[gradient].as<const G>() + at},
                          {call.outputs[0].as<S>() + at},
                          {nullptr},
                          factors,
                          end - begin};
      if (has_momentum) {
        kernel.m_in = {call.inputs[1].as<const S>() + at};
        kernel.m_out = {call.outputs[1].as<S>() + at};
      }
      if (!decays(segment)) kernel.k.decay = S{0};
      return kernel;
    });
  });
}

}  // namespace memwall::cpu
