// Initialisation, control of the step, and the update.
#include "runtime/base/averaging.h"
#include "runtime/kernels/adahessian.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/initialize.h"
#include "runtime/kernels/launchers/unit_runs.h"
#include "runtime/kernels/sgd.h"
#include "runtime/kernels/step_control.h"

namespace memwall::launchers {
namespace {

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
                 launch_tiles(call, count, kernel);
               } else {
                 const double value = segment == nullptr ? 0.0 : segment->init_value;
                 launch_tiles(call, count, Fill<T, Accumulator<T>>{{to}, value, count});
               }
             });
  });
}

void step_control(const KernelCall& call) {
  const StepControl kernel{call.inputs[0].as<const double>(), call.inputs[1].as<const double>(),
                           call.outputs[0].as<double>(),
                           std::get<StepControlAttributes>(call.attributes)};
  launch(call, 1, 1, kernel);
}

void adamw(const KernelCall& call) {
  const double* const scalars = call.inputs[4].as<const double>();
  with_update_types(call, 3, [&]<class S, class G>(S, G) {
    const Range range = range_of(call, call.outputs[0]);
    launch_runs(call, range, [&](int64_t begin, int64_t end, const Segment* segment) {
      const int64_t at = begin - range.begin;
      return AdamW<S, G, S>{{call.inputs[0].as<const S>() + at},
                            {call.inputs[1].as<const S>() + at},
                            {call.inputs[2].as<const S>() + at},
                            {call.inputs[3].as<const G>() + at},
                            {call.outputs[0].as<S>() + at},
                            {call.outputs[1].as<S>() + at},
                            {call.outputs[2].as<S>() + at},
                            unit_of(call),
                            scalars,
                            decays(segment),
                            end - begin};
    });
  });
}

void adahessian(const KernelCall& call) {
  const bool measured = call.outputs.size() == 3;
  const size_t averages = 4;  // the input that holds h, or the scalars
  const double* const scalars = call.inputs[measured ? 5 : 4].as<const double>();
  with_update_types(call, 3, [&]<class S, class G>(S, G) {
    const UnitAttributes& a = unit_of(call);
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
                                 .a = a,
                                 .scalars = scalars,
                                 .decays = decays(segment),
                                 .count = end - begin};
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
  with_update_types(call, gradient, [&]<class S, class G>(S, G) {
    const Range range = range_of(call, call.outputs[0]);
    launch_runs(call, range, [&](int64_t begin, int64_t end, const Segment* segment) {
      const int64_t at = begin - range.begin;
      Sgd<S, G, S> kernel{{call.inputs[0].as<const S>() + at},
                          {nullptr},
                          {call.inputs[gradient].as<const G>() + at},
                          {call.outputs[0].as<S>() + at},
                          {nullptr},
                          unit_of(call),
                          scalars,
                          decays(segment),
                          end - begin};
      if (has_momentum) {
        kernel.m_in = {call.inputs[1].as<const S>() + at};
        kernel.m_out = {call.outputs[1].as<S>() + at};
      }
      return kernel;
    });
  });
}

}  // namespace memwall::launchers
