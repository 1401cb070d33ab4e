// Sums over whole tensors, in double precision.
#include "runtime/base/workspace.h"
#include "runtime/kernels/cpu/launch.h"
#include "runtime/kernels/reduce.h"

namespace memwall::cpu {
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
    const int64_t per_part = blocks.blocks_of_part();
    const bool kept = call.threads > 1 && static_cast<int64_t>(call.workspace.size()) >=
                                              sum_workspace_bytes(x.elements(), parts);
    const auto* partials = reinterpret_cast<double*>(call.workspace.data());
    if (kept) {
      const Partials<BlockSum<T, kTerm>> kernel{blocks,
                                                reinterpret_cast<double*>(call.workspace.data())};
      launch(call.threads, parts * per_part, std::min(part_count, kSumBlock), kernel);
    }
    CpuTeam team;
    for (int64_t part = 0; part < parts; ++part) {
      double total = 0.0;
      for (int64_t block = part * per_part; block < (part + 1) * per_part; ++block) {
        total += kept ? partials[block] : blocks.sum(team, block);
      }
      results[part] = call.accumulate ? results[part] + total : total;
    }
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

}  // namespace memwall::cpu
