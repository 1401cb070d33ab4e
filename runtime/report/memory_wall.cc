#include "runtime/report/memory_wall.h"

#include <algorithm>
#include <array>
#include <map>

#include "runtime/report/assets.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kRanksOfANode = 8;

void count(const Step& step, int64_t runs, std::map<std::string, std::array<int64_t, 3>>& parts) {
  std::array<int64_t, 3>& part = parts[std::string(op_name(step.op))];
  part[0] += step.flops * runs;
  part[1] += step.dram_bytes * runs;
  part[2] += runs;
}

Json placement_json(const OnHardware& p) {
  return {{"dram_ridge", p.dram_ridge},
          {"link_ridge", p.link_ridge},
          {"compute_seconds", p.compute_seconds},
          {"dram_seconds", p.dram_seconds},
          {"link_seconds", p.link_seconds},
          {"capacity_share", p.capacity_share},
          {"fits", p.fits},
          {"wall", name_of(p.wall)}};
}

Json generation_json(const Generation& g, const RankWork& work) {
  Json out = {{"name", g.name},
              {"year", g.year > 0.0 ? Json(g.year) : Json()},
              {"source", g.source},
              {"flops", g.flops > 0.0 ? Json(g.flops) : Json()},
              {"dram_bandwidth", g.dram_bandwidth},
              {"memory_bytes", g.memory_bytes},
              {"link_bandwidth", g.link_bandwidth},
              {"nic_bandwidth", g.nic_bandwidth}};
  out["placement"] = g.flops > 0.0 ? placement_json(place_on(g, work)) : Json();
  return out;
}

}  // namespace

std::string_view name_of(Wall wall) {
  constexpr std::array<std::string_view, 4> kNames = {"capacity", "compute", "dram", "link"};
  return kNames.at(static_cast<size_t>(wall));
}

std::vector<Generation> generations(const std::string& precision) {
  std::vector<Generation> out;
  for (const Json& entry : Json::parse(assets::kHardware)) {
    const Json& flops = entry.at("flops").at(precision);
    out.push_back({.name = entry.at("name"),
                   .source = entry.at("source"),
                   .year = entry.at("year"),
                   .flops = flops.is_null() ? 0.0 : flops.get<double>(),
                   .dram_bandwidth = entry.at("dram_bandwidth"),
                   .memory_bytes = entry.at("memory_bytes"),
                   .link_bandwidth = entry.at("link_bandwidth"),
                   .nic_bandwidth = entry.at("nic_bandwidth")});
  }
  return out;
}

RankWork rank_work(const Plan& plan) {
  const Totals& t = plan.totals;
  const int64_t sent =
      t.all_gather.wire_bytes + t.reduce_scatter.wire_bytes + t.all_reduce.wire_bytes;
  return {.flops = static_cast<double>(t.model_flops + t.recomputed_flops + t.tangent_flops),
          .dram_bytes = static_cast<double>(t.dram_bytes),
          .link_bytes = static_cast<double>(sent),
          .held_bytes = static_cast<double>(planned_bytes(plan)),
          .ranks = plan.ranks};
}

OnHardware place_on(const Generation& g, const RankWork& work) {
  OnHardware out;
  const bool leaves_the_node = work.ranks > kRanksOfANode;
  const double link = leaves_the_node ? g.nic_bandwidth : g.link_bandwidth;
  out.dram_ridge = g.flops / g.dram_bandwidth;
  out.link_ridge = link > 0.0 ? g.flops / link : 0.0;
  out.compute_seconds = work.flops / g.flops;
  out.dram_seconds = work.dram_bytes / g.dram_bandwidth;
  out.link_seconds = link > 0.0 ? work.link_bytes / link : 0.0;
  out.capacity_share = work.held_bytes / g.memory_bytes;
  out.fits = work.held_bytes <= g.memory_bytes;
  const double longest = std::max({out.compute_seconds, out.dram_seconds, out.link_seconds});
  if (!out.fits) {
    out.wall = Wall::kCapacity;
  } else if (out.compute_seconds == longest) {
    out.wall = Wall::kCompute;
  } else {
    out.wall = out.dram_seconds == longest ? Wall::kDram : Wall::kLink;
  }
  return out;
}

Json parts_of(const Plan& plan) {
  std::map<std::string, std::array<int64_t, 3>> parts;
  const bool curvature = plan.has_program("update_hessian");
  for (const ProgramRun& run : training_step(plan.micro_steps, plan.probes, curvature)) {
    const Program& program = plan.program(run.program);
    for (const Step& step : program.steps) {
      if (step.op != Op::kChunked) {
        count(step, 1, parts);
        continue;
      }
      // FLOPs and bytes of a body's step are those of all iterations.
      for (const Step& inner : program.bodies[static_cast<size_t>(step.body)].steps) {
        count(inner, 1, parts);
      }
    }
  }
  Json out = Json::array();
  for (const auto& [name, part] : parts) {
    out.push_back(
        {{"name", name}, {"flops", part[0]}, {"dram_bytes", part[1]}, {"calls", part[2]}});
  }
  std::stable_sort(out.begin(), out.end(), [](const Json& a, const Json& b) {
    return a["dram_bytes"].get<int64_t>() > b["dram_bytes"].get<int64_t>();
  });
  return out;
}

Json memory_wall_json(const Plan& plan, const std::string& precision,
                      const std::vector<Generation>& more) {
  const RankWork work = rank_work(plan);
  Json out = {{"precision", precision},
              {"ranks_of_a_node", kRanksOfANode},
              {"work",
               {{"flops", work.flops},
                {"dram_bytes", work.dram_bytes},
                {"link_bytes", work.link_bytes},
                {"held_bytes", work.held_bytes},
                {"ranks", work.ranks}}},
              {"parts", parts_of(plan)},
              {"generations", Json::array()}};
  for (const Generation& g : generations(precision)) {
    out["generations"].push_back(generation_json(g, work));
  }
  for (const Generation& g : more) {
    Json entry = generation_json(g, work);
    entry["given"] = true;
    out["generations"].push_back(std::move(entry));
  }
  return out;
}

}  // namespace memwall
