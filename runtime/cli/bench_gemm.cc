// `memwall bench gemm`: products one by one, the kernel beside the library.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "comm/agree.h"
#include "runtime/base/gemm_panels.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/gemm_list.h"
#include "runtime/cli/samples.h"
#include "runtime/cli/settings.h"
#include "runtime/cli/tables.h"
#include "runtime/kernels/machine.h"

namespace memwall {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr int kLeastRounds = 3, kMostRounds = 1000;

struct Product {
  GemmCall call;                        // the first of its kind
  std::set<std::string> names{};        // of its steps, the block's number left out
  int64_t calls = 0;                    // a step
  Samples kernel{}, half{}, library{};  // seconds
};

// "block3/attn/qkv" is "block*/attn/qkv".
std::string without_block(const std::string& name) {
  constexpr std::string_view kBlock = "block";
  if (!name.starts_with(kBlock)) return name;
  size_t end = kBlock.size();
  while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
  return std::string(kBlock) + '*' + name.substr(end);
}

// What of a product its time depends on.
bool same_work(const GemmCall& a, const GemmCall& b) {
  GemmAttributes left = a.limited(), right = b.limited();
  left.limit = right.limit = GemmLimit::kNone;
  left.limit_rows = right.limit_rows = 0;
  left.limit_period = right.limit_period = 1;
  return left == right && a.accumulate == b.accumulate;
}

std::vector<Product> distinct(const std::vector<GemmCall>& calls) {
  std::vector<Product> out;
  for (const GemmCall& call : calls) {
    auto known = std::find_if(out.begin(), out.end(),
                              [&](const Product& p) { return same_work(p.call, call); });
    if (known == out.end()) known = out.insert(out.end(), {.call = call});
    ++known->calls;
    known->names.insert(call.step != nullptr
                            ? without_block(call.step->name)
                            : fmt::format("{}x{}x{}", call.whole.m, call.whole.n, call.whole.k));
  }
  return out;
}

// "1024x768x2304" or "1024x768x2304:NT": m, n, k, and how a and b lie.
GemmCall parse_shape(const std::string& text) {
  constexpr int64_t kMost = int64_t{1} << 20;
  const std::string allowed = "MxNxK, each 1 to 1048576, and :NN, :NT, :TN or :TT after it";
  const auto refuse = [&] { return InputError("is no shape", "--shape " + text, allowed); };
  int64_t sizes[3];
  const char *at = text.data(), *const end = text.data() + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto [next, error] = std::from_chars(at, end, sizes[i]);
    if (error != std::errc() || sizes[i] < 1 || sizes[i] > kMost) throw refuse();
    at = next;
    if (i < 2 && (at == end || *at++ != 'x')) throw refuse();
  }
  const std::string layout(at, end);
  const bool known = layout.empty() || (layout.size() == 3 && layout[0] == ':' &&
                                        layout.find_first_not_of("NT", 1) == std::string::npos);
  if (!known) throw refuse();
  const auto [m, n, k] = sizes;
  const bool a_transposed = !layout.empty() && layout[1] == 'T';
  const bool b_transposed = !layout.empty() && layout[2] == 'T';
  GemmCall call;
  call.whole.m = m;
  call.whole.n = n;
  call.whole.k = k;
  call.whole.a = a_transposed ? Strides{m * k, 1, m} : Strides{m * k, k, 1};
  call.whole.b = b_transposed ? Strides{k * n, 1, k} : Strides{k * n, n, 1};
  call.whole.c = {m * n, n, 1};
  return call;
}

double seconds(const std::function<void()>& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// In turn, for about `limit_seconds`, and once before.
void measure(Product& p, double limit_seconds, GemmBench& fp32, GemmBench& fp16) {
  const GemmCall single = in_type({p.call}, DType::kF32).front();
  const GemmCall half = in_type({p.call}, DType::kF16).front();
  const auto kernel = [&] { fp32.run_kernel(single); };
  const auto kernel_half = [&] { fp16.run_kernel(half); };
  const auto library = [&] { fp32.run_library(single); };
  kernel();
  kernel_half();
  library();
  double spent = 0.0;
  for (int i = 0; i < kMostRounds && (i < kLeastRounds || spent < limit_seconds); ++i) {
    p.kernel.add(seconds(kernel));
    p.library.add(seconds(library));
    p.half.add(seconds(kernel_half));
    spent += p.kernel.values.back() + p.library.values.back() + p.half.values.back();
  }
}

std::vector<GemmCall> products_of(const BenchGemmOptions& options, const Job& job, Plan& plan) {
  if (options.config.path.empty()) {
    std::vector<GemmCall> calls;
    for (const std::string& shape : options.shapes) calls.push_back(parse_shape(shape));
    return calls;
  }
  const GivenConfig given = load_config(options.config.path, options.config.overrides);
  validate(given, job.ranks(), Purpose::kBench);
  const config::Config config = effective(given.config, job.ranks());
  plan = compile(Gpt2(gpt_spec(config)), compile_settings(config, job.ranks()));
  return gemm_list(plan, plan.has_program("update_hessian"));
}

void check_options(const BenchGemmOptions& options) {
  if (options.config.path.empty() && options.shapes.empty()) {
    throw InputError("bench gemm needs CONFIG, or --shape MxNxK");
  }
  if (!options.config.path.empty() && !options.shapes.empty()) {
    throw InputError("is given beside CONFIG", "--shape", "one of the two");
  }
  if (options.config.path.empty() && !options.config.overrides.empty()) {
    throw InputError("needs CONFIG", "--set");
  }
}

char letter(const Strides& s, int64_t rows, int64_t columns) {
  const auto layout = layout_of(s, rows, columns);
  return layout ? layout->transpose : '-';
}

std::string letters(const GemmAttributes& g) {
  return {letter(g.a, g.m, g.k), letter(g.b, g.k, g.n)};
}

double gflops(const Product& p, double seconds) {
  return 1e-9 * static_cast<double>(p.call.flops()) / seconds;
}

Json to_json(const std::vector<Product>& products, const BenchGemmOptions& options,
             const Job& job) {
  Json out;
  if (!options.config.path.empty()) out["config"] = options.config.path;
  out["ranks"] = job.ranks();
  out["threads"] = job.threads();
  out["cpu"] = cpu_features();
  int64_t flops = 0;
  Json list = Json::array();
  for (const Product& p : products) {
    const GemmAttributes g = p.call.limited();
    flops += p.calls * p.call.flops();
    Json one = {{"names", p.names}, {"batch", g.batch}, {"m", g.m}, {"n", g.n}, {"k", g.k}};
    one["layout"] = letters(g);
    one["accumulate"] = p.call.accumulate;
    one["calls"] = p.calls;
    one["flops"] = p.call.flops();
    const auto add = [&](const std::string& side, const Samples& samples) {
      one["seconds_" + side] = samples.median();
      one["gflops_" + side] = gflops(p, samples.median());
      one["gflops_" + side + "_max"] = gflops(p, samples.min());
    };
    add("kernel", p.kernel);
    add("kernel_fp16", p.half);
    add("library", p.library);
    list.push_back(std::move(one));
  }
  out["gemm_flops"] = flops;
  out["products"] = std::move(list);
  return out;
}

std::string to_text(const std::vector<Product>& products, const Job& job) {
  TextTable table({"product", "batch", "m", "n", "k", "layout", "calls", "kernel", "kernel FP16",
                   gemm_library()});
  for (const Product& p : products) {
    const GemmAttributes g = p.call.limited();
    std::string name = *p.names.begin();
    if (p.names.size() > 1) name += fmt::format(" and {} more", p.names.size() - 1);
    const auto rate = [&](const Samples& s) {
      return fmt::format("{:.1f}", gflops(p, s.median()));
    };
    table.add({name, std::to_string(g.batch), std::to_string(g.m), std::to_string(g.n),
               std::to_string(g.k), letters(g) + (p.call.accumulate ? " +" : "  "),
               count_text(p.calls), rate(p.kernel), rate(p.half), rate(p.library)});
  }
  return fmt::format(
      "GFLOP/s, medians, {} thread{}; a \"+\" adds to its result; by the library's time a "
      "step\n\n{}",
      job.threads(), job.threads() == 1 ? "" : "s", table.text());
}

}  // namespace

ExitCode bench_gemm_verb(const BenchGemmOptions& options, Job& job) {
  check_options(options);
  Plan plan;
  std::vector<Product> products = distinct(products_of(options, job, plan));
  constexpr double kTimeoutSeconds = 600.0;
  job.connect(kTimeoutSeconds);
  std::vector<GemmCall> calls;
  for (const Product& p : products) calls.push_back(p.call);
  GemmBench fp32(in_type(calls, DType::kF32), job.threads());
  GemmBench fp16(in_type(calls, DType::kF16), job.threads());
  for (Product& p : products) measure(p, options.seconds, fp32, fp16);
  job.comm().barrier();  // all ranks compute as long as one does
  if (!job.speaks()) return ExitCode::kDone;
  std::stable_sort(products.begin(), products.end(), [](const Product& a, const Product& b) {
    return static_cast<double>(a.calls) * a.library.median() >
           static_cast<double>(b.calls) * b.library.median();
  });
  fmt::print(
      "{}", options.json ? to_json(products, options, job).dump(2) + '\n' : to_text(products, job));
  return ExitCode::kDone;
}

}  // namespace memwall
