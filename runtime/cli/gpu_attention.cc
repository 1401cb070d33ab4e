#include "runtime/cli/gpu_attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "comm/agree.h"
#include "runtime/exec/gpu/module.h"

namespace memwall {

void settle_attention(config::Config& config, Gpu& gpu, Job& job) {
  const bool wanted = !config.run().has_fused_attention() || config.run().fused_attention();
  if (!could_fuse_attention(config) || !wanted) return;
  const int64_t before = gpu.device->free_bytes();
  AttentionSupport mine;
  run_together(job.comm(), [&] { mine = open_gpu_module().attention_support(*gpu.device); });
  gpu.attention_bytes = before - gpu.device->free_bytes();
  const std::vector<std::string> refusals = job.comm().gather_text(mine.refusal);
  const auto found = std::find_if(refusals.begin(), refusals.end(),
                                  [](const std::string& text) { return !text.empty(); });
  if (found == refusals.end()) {
    check_agreement(job.comm(), {{"cuDNN", mine.version}});
    if (job.speaks()) fmt::print("{}\n", mine.version);
    config.mutable_run()->set_fused_attention(true);
    return;
  }
  run_together(job.comm(), [&] {
    if (!config.run().has_fused_attention() || mine.refusal.empty()) return;
    throw InputError(mine.refusal, "run.fused_attention: true",
                     "install cuDNN and build with its front end, or set it to false");
  });
  if (job.speaks()) fmt::print("attention by products and softmax: {}\n", *found);
  config.mutable_run()->set_fused_attention(false);
}

void prepare_attention(const Gpu& gpu, const Plan& plan, const config::Config& config, Job& job) {
  std::vector<AttentionWork> work;
  for (const Program& program : plan.programs) {
    for (const Step& step : program.steps) {
      if (step.op != Op::kAttention && step.op != Op::kAttentionGrad) continue;
      work.push_back({std::get<AttentionAttributes>(step.attributes), step.inputs[0].dtype,
                      step.op == Op::kAttentionGrad, step.workspace.bytes});
    }
  }
  // Programs with tangents never have it; those without are missing where every step has tangents.
  const bool has_backward =
      std::any_of(work.begin(), work.end(), [](const AttentionWork& w) { return w.backward; });
  const bool could = could_fuse_attention(config) && config.run().fused_attention();
  if (could && plan.has_program("last_micro") && !has_backward && job.speaks()) {
    fmt::print(
        "attention{} by products and softmax: cuDNN has no kernel for heads of {} elements "
        "over {} tokens, within the planned workspace\n",
        work.empty() ? "" : "'s gradient",
        config.model().hidden_size() / config.model().num_heads(), config.data().seq_length());
  }
  run_together(job.comm(), [&] { open_gpu_module().prepare_attention(*gpu.device, work); });
}

}  // namespace memwall
