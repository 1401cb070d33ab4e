// Sums over whole tensors, in double precision.
#include "runtime/base/workspace.h"
#include "runtime/kernels/launchers/types.h"
#include "runtime/kernels/reduce.h"

namespace memwall::launchers {
namespace {

// results[part] (+)= the block sums of the part, in their order.
template <Term kTerm>
void sum_blocks(const KernelCall& call, int64_t parts) {
  const Tensor& x = call.inputs[0];
  check(x.elements() % parts == 0, "a tensor is summed in equal parts");
  const int64_t part_count = x.elements() / parts;
  double* results = call.outputs[0].as<double>();
  with_float_type(x.dtype, [&]<class T>(T) {
    const BlockSum<T, kTerm> blocks{{x.as<const T>()}, part_count};
    const bool kept = keeps_partials(call) && static_cast<int64_t>(call.workspace.size()) >=
                                                  sum_workspace_bytes(x.elements(), parts);
    double* const partials = kept ? reinterpret_cast<double*>(call.workspace.data()) : nullptr;
    if (kept) {
      launch(call, parts * blocks.blocks_of_part(), std::min(part_count, kSumBlock),
             Partials<BlockSum<T, kTerm>>{blocks, partials});
    }
    const TotalOfBlocks<BlockSum<T, kTerm>> kernel{blocks, partials, results, call.accumulate};
    launch(call, parts, 1, kernel);
  });
}

}  // namespace

void sum(const KernelCall& call) {
  sum_blocks<Term::kValue>(call, 1);
}

void sum_parts(const KernelCall& call) {
  sum_blocks<Term::kValue>(call, std::get<UnitAttributes>(call.attributes).parts);
}

void sum_squares(const KernelCall& call) {
  sum_blocks<Term::kSquare>(call, std::get<UnitAttributes>(call.attributes).parts);
}

}  // namespace memwall::launchers
