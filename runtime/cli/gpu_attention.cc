#include "runtime/cli/gpu_attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "comm/agree.h"
#include "runtime/exec/gpu/module.h"

namespace memwall {

void settle_attention(config::Config& config, Job& job) {
  if (!could_fuse_attention(config)) return;
  std::string refusal;
  run_together(job.comm(), [&] { refusal = open_gpu_module().refusal_of_attention(); });
  const std::vector<std::string> refusals = job.comm().gather_text(refusal);
  const auto found = std::find_if(refusals.begin(), refusals.end(),
                                  [](const std::string& text) { return !text.empty(); });
  if (found == refusals.end()) {
    if (!config.run().has_fused_attention()) config.mutable_run()->set_fused_attention(true);
    return;
  }
  run_together(job.comm(), [&] {
    if (!config.run().fused_attention()) return;
    if (refusal.empty()) return;
    throw InputError(refusal, "run.fused_attention: true",
                     "install cuDNN and build with its front end, or set it to false");
  });
  if (!config.run().has_fused_attention() && job.speaks()) {
    fmt::print("attention by products and softmax: {}\n", *found);
  }
  config.mutable_run()->set_fused_attention(false);
}

void prepare_attention(const Gpu& gpu, const Plan& plan, Job& job) {
  std::vector<AttentionWork> work;
  for (const Program& program : plan.programs) {
    for (const Step& step : program.steps) {
      if (step.op != Op::kAttention && step.op != Op::kAttentionGrad) continue;
      work.push_back({std::get<AttentionAttributes>(step.attributes), step.inputs[0].dtype,
                      step.op == Op::kAttentionGrad, step.workspace.bytes});
    }
  }
  run_together(job.comm(), [&] { open_gpu_module().prepare_attention(*gpu.device, work); });
}

}  // namespace memwall
