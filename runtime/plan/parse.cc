// Reading a plan's text back.
#include <fmt/format.h>

#include "runtime/plan/plan.h"
#include "runtime/plan/record.h"

namespace memwall {
namespace {

// The order of `Attributes`' alternatives.
template <size_t I = 0>
Attributes attributes_of_kind(size_t kind) {
  if constexpr (I < std::variant_size_v<Attributes>) {
    if (kind == I) return std::variant_alternative_t<I, Attributes>{};
    return attributes_of_kind<I + 1>(kind);
  } else {
    throw InternalError("no such kind of attributes");
  }
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  if (text == "-") return parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

int64_t to_integer(std::string_view text, const RecordReader& r) {
  int64_t out = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) r.fail("not a number");
  return out;
}

class Parser {
 public:
  Parser(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}

  Plan run() {
    if (next_line() != kPlanHeader) {
      throw InputError("does not begin with " + std::string(kPlanHeader), file_,
                       "a file written by memwall plan --dump");
    }
    while (!text_.empty()) {
      const std::string_view line = next_line();
      read(RecordReader(line, file_ + ":" + std::to_string(line_)));
    }
    if (!complete_) throw InputError("ends before its totals", file_, "the dump is truncated");
    return std::move(plan_);
  }

 private:
  std::string_view next_line() {
    const size_t end = text_.find('\n');
    const std::string_view line = text_.substr(0, end);
    text_.remove_prefix(end == std::string_view::npos ? text_.size() : end + 1);
    ++line_;
    return line;
  }

  static DType dtype(const RecordReader& r) {
    const auto parsed = parse_dtype(r.text("dtype"));
    if (!parsed) r.fail("unknown dtype");
    return *parsed;
  }
  static Shape shape(const RecordReader& r) {
    Shape out;
    for (std::string_view dim : split(r.text("shape"), 'x')) out.append(to_integer(dim, r));
    return out;
  }
  template <class E>
  static E enumerator(const RecordReader& r, std::string_view key, int64_t count) {
    const int64_t value = r.integer(key);
    if (value < 0 || value >= count) r.fail("field " + std::string(key) + " is out of range");
    return static_cast<E>(value);
  }
  static std::vector<int32_t> list(const RecordReader& r, std::string_view key) {
    std::vector<int32_t> out;
    for (std::string_view item : split(r.text(key), ',')) {
      out.push_back(static_cast<int32_t>(to_integer(item, r)));
    }
    return out;
  }
  int32_t index(const RecordReader& r, std::string_view key, size_t count) const {
    const int64_t value = r.integer(key);
    if (value < 0 || value >= static_cast<int64_t>(count)) {
      r.fail("field " + std::string(key) + " names nothing");
    }
    return static_cast<int32_t>(value);
  }

  Operand operand(const RecordReader& r) const {
    Operand o;
    o.value = index(r, "value", plan_.values.size());
    o.dtype = dtype(r);
    o.shape = shape(r);
    r("bytes", o.bytes);
    r("base", o.base);
    r("rank_stride", o.rank_stride);
    r("start", o.start);
    r("rank_start", o.rank_start);
    r("period", o.period);
    r("iteration_bytes", o.iteration_bytes);
    r("iteration_start", o.iteration_start);
    if (o.period < 1) r.fail("a period below 1");
    return o;
  }

  static void categories(const RecordReader& r, std::string_view prefix, ByCategory& bytes) {
    for (size_t c = 0; c < kCategoryCount; ++c) {
      bytes[c] = r.integer(fmt::format("{}.{}", prefix, name_of(static_cast<Category>(c))));
    }
  }
  static void traffic(const RecordReader& r, std::string_view name, PlannedTraffic& t) {
    t.calls = r.integer(fmt::format("{}.calls", name));
    t.payload_bytes = r.integer(fmt::format("{}.payload_bytes", name));
    t.wire_bytes = r.integer(fmt::format("{}.wire_bytes", name));
  }

  Program& program(const RecordReader& r) {
    if (plan_.programs.empty()) r.fail("outside a program");
    return plan_.programs.back();
  }
  Step& step(const RecordReader& r) {
    std::vector<Step>& list = steps(r);
    if (list.empty()) r.fail("outside a step");
    return list.back();
  }
  std::vector<Step>& steps(const RecordReader& r) {
    Program& p = program(r);
    return in_body_ ? p.bodies.back().steps : p.steps;
  }

  void read(const RecordReader& r) {
    const std::string_view k = r.keyword();
    if (k == "plan") return read_plan(r);
    if (k == "unit" || k == "segment") return read_unit(r, k == "unit");
    if (k == "value") {
      plan_.values.push_back({std::string(r.text("name")),
                              enumerator<Category>(r, "category", kCategoryCount),
                              r.integer("bytes")});
    } else if (k == "slot") {
      read_slot(r);
    } else if (k == "program") {
      read_program(r);
    } else if (k == "body") {
      program(r).bodies.push_back({r.integer("count"), {}});
      in_body_ = true;
    } else if (k == "steps") {
      in_body_ = false;
    } else if (k == "step") {
      read_step(r);
    } else if (k == "attributes") {
      const int64_t kind = r.integer("kind");
      if (kind < 0 || kind >= static_cast<int64_t>(std::variant_size_v<Attributes>)) {
        r.fail("no such kind of attributes");
      }
      step(r).attributes = attributes_of_kind(static_cast<size_t>(kind));
      std::visit([&](auto& attributes) { attributes.fields(r); }, step(r).attributes);
    } else if (k == "in") {
      step(r).inputs.push_back(operand(r));
    } else if (k == "out") {
      step(r).outputs.push_back(operand(r));
    } else if (k == "addend") {
      step(r).addends.push_back(operand(r));
    } else if (k == "workspace") {
      step(r).workspace = operand(r);
    } else if (k == "result") {
      program(r).results.push_back({index(r, "slot", plan_.slots.size()), {}});
    } else if (k == "where") {
      if (program(r).results.empty()) r.fail("outside a result");
      program(r).results.back().where = operand(r);
    } else if (k == "step_totals") {
      read_step_totals(r, plan_.totals);
    } else if (k == "between_totals") {
      read_step_totals(r, plan_.totals.between);
    } else if (k == "totals") {
      read_totals(r);
    } else {
      r.fail("unknown keyword \"" + std::string(k) + "\"");
    }
  }

  static Transport read_transport(const RecordReader& r) {
    const std::string_view name = r.text("transport");
    for (const Transport known : kTransports) {
      if (name == name_of(known)) return known;
    }
    r.fail("no such transport: " + std::string(name));
  }

  void read_plan(const RecordReader& r) {
    r("ranks", plan_.ranks);
    r("micro_steps", plan_.micro_steps);
    r("probes", plan_.probes);
    r("zero_stage", plan_.zero_stage);
    plan_.target = r.text("target");
    plan_.fabric.transport = read_transport(r);
    r("window_ranks", plan_.fabric.window_ranks);
    r("page_bytes", plan_.page_bytes);
    r("persistent_bytes", plan_.persistent_bytes);
    r("arena_bytes", plan_.arena_bytes);
    r("parameters", plan_.parameters);
  }

  void read_unit(const RecordReader& r, bool unit) {
    if (unit) {
      plan_.units.push_back(
          {std::string(r.text("name")), r.integer("parameters"), r.integer("padded"), {}});
      return;
    }
    if (plan_.units.empty()) r.fail("outside a unit");
    Segment s;
    s.name = r.text("name");
    s.shape = shape(r);
    s.count = s.shape.elements();
    r("offset", s.offset);
    s.decay = r.integer("decay") != 0;
    s.init = enumerator<InitKind>(r, "init", 2);
    r("init_value", s.init_value);
    s.index = static_cast<uint32_t>(r.integer("index"));
    plan_.units.back().segments.push_back(std::move(s));
  }

  void read_slot(const RecordReader& r) {
    Slot s;
    s.kind = enumerator<SlotKind>(r, "kind", static_cast<int64_t>(SlotKind::kLogits) + 1);
    r("unit", s.unit);
    s.sharded = r.integer("sharded") != 0;
    s.dtype = dtype(r);
    s.shape = shape(r);
    r("offset", s.offset);
    r("bytes", s.bytes);
    s.value = index(r, "value", plan_.values.size());
    plan_.slots.push_back(s);
  }

  void read_program(const RecordReader& r) {
    Program p;
    p.name = r.text("name");
    p.host_slots = list(r, "host_slots");
    r("live_bytes_peak", p.live_bytes_peak);
    categories(r, "at_peak", p.at_peak);
    categories(r, "maximum", p.maximum);
    plan_.programs.push_back(std::move(p));
    in_body_ = false;
  }

  void read_step(const RecordReader& r) {
    Step s;
    s.name = r.text("name");
    const auto op = parse_op(r.text("op"));
    if (!op) r.fail("unknown op");
    s.op = *op;
    s.stream = enumerator<Stream>(r, "stream", static_cast<int64_t>(Stream::kCount));
    s.algorithm = enumerator<Algorithm>(r, "algorithm", kAlgorithms);
    s.backward = r.integer("backward") != 0;
    s.recomputed = r.integer("recomputed") != 0;
    s.tangent = r.integer("tangent") != 0;
    s.dual = r.integer("dual") != 0;
    s.block = static_cast<int32_t>(r.integer("block"));
    s.accumulate = enumerator<Accumulate>(r, "accumulate", 5);
    r("accumulate_period", s.accumulate_period);
    if (s.accumulate_period < 1) r.fail("a period below 1");
    for (std::string_view pair : split(r.text("in_place"), ',')) {
      const auto sides = split(pair, ':');
      if (sides.size() != 2) r.fail("in_place takes OUTPUT:INPUT");
      s.in_place.push_back({static_cast<int32_t>(to_integer(sides[0], r)),
                            static_cast<int32_t>(to_integer(sides[1], r))});
    }
    s.waits = list(r, "waits");
    s.body = static_cast<int32_t>(r.integer("body"));
    r("flops", s.flops);
    r("dram_bytes", s.dram_bytes);
    steps(r).push_back(std::move(s));
  }

  static void read_step_totals(const RecordReader& r, StepTotals& t) {
    traffic(r, "all_gather", t.all_gather);
    traffic(r, "reduce_scatter", t.reduce_scatter);
    traffic(r, "all_reduce", t.all_reduce);
    r("model_flops", t.model_flops);
    r("recomputed_flops", t.recomputed_flops);
    r("tangent_flops", t.tangent_flops);
    r("dram_bytes", t.dram_bytes);
  }

  void read_totals(const RecordReader& r) {
    Totals& t = plan_.totals;
    r("padding_bytes", t.padding_bytes);
    r("lower_bound", t.lower_bound);
    categories(r, "at_peak", t.at_peak);
    categories(r, "maximum", t.maximum);
    complete_ = true;
  }

  std::string_view text_;
  std::string file_;
  int line_ = 0;
  Plan plan_;
  bool in_body_ = false, complete_ = false;
};

}  // namespace

Plan parse_plan(std::string_view text, const std::string& file_name) {
  return Parser(text, file_name).run();
}

}  // namespace memwall
