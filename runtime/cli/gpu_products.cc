#include "runtime/cli/gpu_products.h"

#include <algorithm>
#include <string>
#include <variant>

#include "comm/agree.h"

namespace memwall {
namespace {

void add(std::vector<GemmWork>& work, const Step& step, int64_t iterations) {
  if (!is_product(step.op)) return;
  const auto& attributes = std::get<GemmAttributes>(step.attributes);
  // What a product leaves out depends on the iteration within the limit's period.
  const bool limited = attributes.limit != GemmLimit::kNone;
  const int64_t different = limited ? std::min(iterations, attributes.limit_period) : 1;
  for (int64_t i = 0; i < different; ++i) {
    work.push_back({attributes, i, step.inputs[0].dtype, step.inputs[1].dtype,
                    step.outputs[0].dtype, epilogue_of(step.op)});
  }
}

}  // namespace

std::vector<GemmWork> products_of(const Plan& plan) {
  std::vector<GemmWork> work;
  for (const Program& program : plan.programs) {
    for (const Step& step : program.steps) add(work, step, 1);
    for (const Body& body : program.bodies) {
      for (const Step& step : body.steps) add(work, step, body.count);
    }
  }
  return work;
}

void agree_on_products(const Gpu& gpu, const Plan& plan, Job& job) {
  if (job.ranks() == 1) return;
  Communicator& comm = job.comm();
  const std::vector<GemmWork> work = products_of(plan);
  std::string choice;
  run_together(comm, [&] {
    if (job.rank() == 0) choice = open_gpu_module().choose_products(*gpu.device, work);
  });
  auto bytes = static_cast<int64_t>(choice.size());
  comm.broadcast(&bytes, sizeof(bytes), 0);
  choice.resize(static_cast<size_t>(bytes));
  comm.broadcast(choice.data(), bytes, 0);
  run_together(comm, [&] { open_gpu_module().take_products(*gpu.device, work, choice); });
}

}  // namespace memwall
