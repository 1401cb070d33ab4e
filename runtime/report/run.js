// The chapters of one run.
// The parts of a step, which add up to it, and their colours; what is measured beside them.
const kParts = { compute: 0, update: 2, progress: 5, exposed_communication: 3, wait: 1, input: 7, other: 6 };
const kBeside = ["communication", "micro_steps"];
const kCollectives = ["all_gather", "reduce_scatter", "all_reduce"];

const card = (id, title, ...body) => element("section", { class: "card", id }, element("h2", null, title), body);
const stepAxis = (steps) => ({ type: "linear", title: "training step", min: 0, suggestedMax: steps.length ? steps[steps.length - 1] : 1, format: whole });
const runName = (run) => run.label;

function problemsOf(run) {
  const found = list(run.problems);
  return found.length ? notice("This run folder is incomplete, or not what it seems. The rest is shown.", bullets(found)) : null;
}

function settingsCard(run, oneOfMany) {
  const environment = object(run.environment);
  const plan = object(run.plan), machine = object(environment.machine);
  const rows = [
    ["Memwall", environment.memwall], ["compiler", environment.compiler], ["compiled for", environment.compiled_for],
    ["MPI", environment.mpi], ["started", environment.started], ["processor", machine.processor],
    ["its features", machine.cpu_features], ["system", machine.system],
    ["ranks", run.ranks || undefined], ["hosts, by rank", list(environment.hosts).join("; ") || undefined],
    ["launch", Object.entries(object(environment.launch)).map(([k, v]) => k + "=" + v).join(" ") || undefined],
    ["command", list(environment.command).join(" ") || undefined],
  ].filter(([, value]) => value !== undefined && value !== null).map(([k, v]) => [k, { text: String(v), kind: "text wrap" }]);
  const config = list(run.config).map(([k, v]) => [k, { text: v, kind: "text wrap" }]);
  return card("settings", "Configuration and environment",
    lead("What was trained, on what: this run has " + (plan.parameters ? decimal(plan.parameters) + " parameters on " : "")
      + (run.ranks || "an unknown number of") + (run.ranks === 1 ? " rank" : " ranks")
      + (plan.zero_stage !== undefined ? ", ZeRO stage " + plan.zero_stage : "") + "."),
    oneOfMany ? problemsOf(run) : null,
    tiles([
      plan.parameters ? [decimal(plan.parameters), "parameters"] : null,
      oneOfMany && run.ranks ? [run.ranks, run.ranks === 1 ? "rank" : "ranks"] : null,
      plan.zero_stage !== undefined ? [plan.zero_stage, "ZeRO stage"] : null,
      plan.transport ? [words(String(plan.transport).toLowerCase()), "transport"] : null,
      at(run, "wall", "precision") ? [run.wall.precision, "precision"] : null,
      run.plan_hash ? [run.plan_hash.slice(0, 8), "plan"] : null,
    ]),
    rows.length ? [element("h3", null, "Environment"), table(["", { text: "value", kind: "text" }], rows, { label: "environment" })]
      : paragraph("environment.json is missing or damaged: the machine is not known.", "muted"),
    folded("The whole configuration (" + config.length + " fields)",
      table(["field", { text: "value", kind: "text" }], config, { label: "configuration", high: true })));
}

function lossCard(run) {
  const steps = object(run.steps), x = list(steps.step), validation = list(run.validation);
  const body = [];
  if (!hasNumbers(steps.loss)) {
    body.push(notice("No step with a loss is in the run folder."));
  } else {
    const v = validation.filter((line) => isNumber(line.loss));
    const curves = [{ label: "training loss", data: points(x, steps.loss), color: 0, kind: "line" }];
    if (v.length) {
      curves.push({ label: "validation loss", data: points(v.map((l) => l.step), v.map((l) => l.loss)), color: 1, kind: "line", dots: true });
    }
    const last = steps.loss.length - 1;
    body.push(lead("The loss should fall, quickly at first; validation that rises while training falls is overfitting."),
      tiles([
        [plain(steps.loss[last], 5), "loss at step " + x[last]],
        v.length ? [plain(v[v.length - 1].loss, 5), "validation at step " + v[v.length - 1].step] : null,
        [plain(steps.loss[0], 5), "loss at step " + x[0]],
        [list(steps.skipped).filter((s) => s === true).length, "skipped steps"],
      ]),
      plot({ title: "Loss", note: "mean cross-entropy over the global batch, natural logarithm", x: stepAxis(x),
             y: { title: "loss (nats a token)" }, curves, heading: (items) => "step " + items[0].parsed.x }));
    if (!v.length) body.push(paragraph("There is no validation line: run.eval_every is 0, or none was reached.", "muted"));
    const small = [
      ["grad_norm", "Gradient norm", "global norm, before clipping", { title: "norm" }],
      ["lr", "Learning rate", "as the schedule gave it", { title: "learning rate", format: (n) => plain(n) }],
    ];
    small.push(["hessian_trace", "Trace of the Hessian", "an estimate from this batch, where curvature was measured", { title: "trace", format: (n) => decimal(n) }]);
    if (list(steps.loss_scale).some((s) => s !== 1)) {
      small.push(["loss_scale", "Loss scale", "doubles after clean steps, falls on overflow", { type: "logarithmic", title: "scale", format: (n) => decimal(n) }]);
    }
    body.push(element("div", { class: "plots two" }, small.filter(([k]) => hasNumbers(steps[k])).map(([k, title, note, y], i) =>
      plot({ title, note, x: stepAxis(x), y, curves: [{ label: title, data: points(x, steps[k]), color: 2 + i, kind: "line" }],
             heading: (items) => "step " + items[0].parsed.x }))));
    body.push(folded("Every step in numbers", table(["step", "loss", "gradient norm", "learning rate", "loss scale", "skipped"],
      x.map((s, k) => [s, exactly(steps.loss[k]), exactly(steps.grad_norm[k]), exactly(steps.lr[k]),
                       exactly(steps.loss_scale[k]), steps.skipped[k] ? "yes" : "no"]), { high: true, label: "steps" })));
    if (v.length) {
      body.push(folded("Validation in numbers", table(["step", "loss", "tokens"],
        validation.map((l) => [l.step, exactly(l.loss), whole(l.tokens)]), { label: "validation" })));
    }
  }
  return card("loss", "Loss and validation", body);
}

// Measured bytes of each rank, step by step.
function residentPlot(ranks) {
  const shown = ranks.filter((r) => hasNumbers(at(r, "resident", "arena")));
  if (!shown.length) return null;
  const of = (r, key) => points(r.resident.step, r.resident[key]);
  const planned = Math.max(...shown.map((r) => at(r, "planned", "memory", "peak")).filter(isNumber)), end = Math.max(...shown.map((r) => r.last_step));
  return plot({ title: "Measured bytes over the run, by rank", note: "resident pages of the arena, and anonymous pages of the whole process"
      + (shown.length < ranks.length ? "; of the first " + shown.length + " ranks" : ""),
    x: { type: "linear", title: "training step", min: 0, suggestedMax: end, format: whole }, y: { title: "bytes a rank", format: bytes, beginAtZero: true },
    curves: [...shown.map((r, k) => ({ label: "rank " + r.rank + ", whole process", color: k, kind: "line", data: of(r, "process"), dots: "none" })),
             ...shown.map((r, k) => ({ label: "rank " + r.rank + ", arena", color: k, kind: "line", dashed: true, data: of(r, "arena") })),
             ...(Number.isFinite(planned) ? [{ label: "planned peak of the arena", color: 9, kind: "line", data: [{ x: 0, y: planned }, { x: end, y: planned }] }] : [])],
    heading: (items) => "step " + items[0].parsed.x });
}

function memoryCard(run) {
  const ranks = list(run.rank_table);
  const body = [lead("Each pair of figures below, planned before launch and measured by the kernel, should be the same to the byte; what lies outside the arena is named line by line.")];
  const first = ranks.find((r) => at(r, "planned", "memory"));
  if (!first) return card("memory", "Memory", body, notice("No metrics line with memory is in the run folder."));
  const categories = data.categories.filter((c) => ranks.some((r) => at(r, "planned", "memory", c) > 0));
  const labels = ranks.map((r) => "rank " + r.rank);
  const same = ranks.every((r) => at(r, "planned", "memory", "peak") === at(r, "measured", "memory", "peak"));
  body.push(tiles([
    [bytes(at(first, "planned", "memory", "peak")), "planned peak, rank " + first.rank],
    [bytes(at(first, "measured", "memory", "peak")), "measured peak, rank " + first.rank],
    [same ? "yes" : "no", "planned = measured on all ranks"],
    [bytes(at(first, "measured", "memory", "rss_anon")), "whole process, rank " + first.rank],
  ]));
  if (!same) {
    body.push(notice("Planned and measured differ on a rank. After a resume the programs run so far differ from those of a whole run; else this is worth a report."));
  }
  body.push(plot({
    title: "Planned bytes at the peak, by category and rank",
    note: "of the program with the highest peak; the measured arena is the dot", stacked: true,
    x: { type: "category", title: "rank", labels }, y: { title: "bytes a rank", format: bytes, beginAtZero: true },
    curves: [...categories.map((c) => ({ label: words(c), color: data.categories.indexOf(c), kind: "bars", stack: "planned", order: 1,
                                         data: ranks.map((r) => at(r, "planned", "memory", c) || 0) })),
             { label: "measured peak of the arena", color: 9, kind: "points", stack: "measured", shape: "rectRot",
               data: ranks.map((r, k) => ({ x: labels[k], y: at(r, "measured", "memory", "peak") })) }],
    heading: (items) => items[0].label }));
  body.push(residentPlot(ranks));
  const numbers = (value) => ({ text: whole(value) });
  body.push(table(["bytes", ...labels],
    [...categories.map((c) => [words(c) + ", planned at the peak", ...ranks.map((r) => numbers(at(r, "planned", "memory", c)))]),
     ["arena, planned peak", ...ranks.map((r) => numbers(at(r, "planned", "memory", "peak")))],
     ["arena, measured peak", ...ranks.map((r) => numbers(at(r, "measured", "memory", "peak")))],
     ["lower bound of any placement", ...ranks.map((r) => numbers(at(r, "planned", "memory", "lower_bound")))],
     ["shared windows mapped", ...ranks.map((r) => numbers(at(r, "measured", "memory", "windows_mapped")))],
     ["whole process, anonymous", ...ranks.map((r) => numbers(at(r, "measured", "memory", "rss_anon")))]], { label: "memory" }));
  const outside = [...new Set(ranks.flatMap((r) => Object.keys(object(at(r, "measured", "memory", "outside")))))];
  if (outside.length) {
    body.push(folded("Outside the arena, by name", table(["bytes", ...labels],
      outside.map((name) => [words(name), ...ranks.map((r) => numbers(at(r, "measured", "memory", "outside", name)))]), { label: "outside the arena" })));
  }
  return card("memory", "Memory, planned and measured", body);
}

// Where a program begins, and its backward part.
function programMarks(p, named) {
  const plain = p.name.startsWith("update") ? "update" : "forward";
  const backward = isNumber(p.backward) && p.backward > p.first ? [{ x: p.backward, label: "backward" }] : [];
  return [{ x: p.first, label: named ? words(p.name) : plain }, ...backward];
}

function liveCard(run) {
  const live = object(run.live);
  if (!list(live.position).length) {
    return card("live", "Memory over a step", lead("What the arena holds at each step of the plan needs the plan."),
      notice("The plan could not be compiled again from this folder."));
  }
  const used = data.categories.filter((c) => list(at(live, "bytes", c)).some((b) => b > 0));
  const held = [...used].sort((a, b) => Math.min(...live.bytes[b]) - Math.min(...live.bytes[a]));
  const programs = list(live.programs);
  const programAt = (p) => programs.filter((g) => g.first <= p).pop() || { name: "", first: 0 };
  const peak = { x: live.peak_position, y: live.peak_bytes };
  const total = live.peak_bytes;
  const resident = at(list(run.rank_table)[0], "measured", "memory", "peak");
  const measured = isNumber(resident) ? [{ label: "resident pages of the arena, measured", color: 9, kind: "line", dashed: true, stack: "measured",
    data: [0, live.positions - 1].map((x) => ({ x, y: resident })) }] : [];
  const holders = list(live.holders).map((h) => [h.name, { text: words(h.category), kind: "text" }, whole(h.bytes), bytes(h.bytes),
    percent(h.bytes / total), { text: h.persistent ? "always" : h.first === h.last ? "step " + h.first : "steps " + h.first + " to " + h.last, kind: "text" }]);
  const others = object(live.other_holders);
  if (others.count) holders.push([others.count + " smaller ones", "", whole(others.bytes), bytes(others.bytes), percent(others.bytes / total), ""]);
  return card("live", "Memory over a step",
    lead("From left to right, what the arena holds while the plan's steps run; what stays flat is held for the whole run. The most, "
      + bytes(total) + ", is alive at step " + live.peak_position + " of " + live.positions + ", " + live.peak_step + "."),
    plot({
      title: "Planned live bytes by category, along the plan's steps", note: "the same on every rank; " + programs.map((p) => p.name
        + (p.runs > 1 ? " (runs " + p.runs + " times)" : "") + ": steps " + p.first + " to " + (p.first + p.steps - 1)).join("; "),
      tall: true, stacked: true, x: { type: "linear", title: "step of the plan", min: 0, max: live.positions - 1, format: whole },
      y: { title: "live bytes a rank", format: bytes, beginAtZero: true, suggestedMax: 1.12 * total },  // room for words
      curves: [...held.map((c, k) => ({ label: words(c), data: points(live.position, live.bytes[c]), color: data.categories.indexOf(c),
                                        kind: "area", first: k === 0, stepped: true, order: 1, stack: "live" })),
               { label: "peak", data: [peak], color: 9, kind: "points", shape: "triangle", stack: "peak" },
               ...measured],
      marks: programs.flatMap((p) => programMarks(p, programs.length > 2)),
      heading: (items) => {
        const p = items[0].parsed.x, k = live.position.indexOf(p);
        return "step " + p + ", " + programAt(p).name + (k >= 0 ? ": " + live.steps[k] : "");
      } }),
    live.positions > live.position.length ? paragraph("Of each stretch of steps the one with the most bytes is drawn: "
      + live.position.length + " of " + live.positions + ".", "muted small") : null,
    element("h3", null, "Who holds the peak"),
    paragraph("The largest stretches of the arena at that step, on rank 0. Slots of all units count as one; a transient one is named after its largest value.", "muted small"),
    table(["name", { text: "category", kind: "text" }, "bytes", "", "of the peak", { text: "alive", kind: "text" }], holders, { label: "holders of the peak", high: true }),
    folded("Programs of a step", table(["program", "steps", "runs a training step", "most live bytes"],
      programs.map((p) => [p.name, p.steps, p.runs, whole(p.peak_bytes)]), { label: "programs" })));
}

function trafficCard(run) {
  const ranks = list(run.rank_table).filter((r) => at(r, "planned", "traffic"));
  const intro = lead("Bytes that a rank sends in a step, planned beside measured by the transport's own counters: the bars of a pair should be equal.");
  if (!ranks.length) return card("traffic", "Traffic", intro, notice("No metrics line with traffic is in the run folder."));
  const sum = (r, side) => kCollectives.reduce((s, c) => s + (at(r, side, "traffic", c, "wire_bytes") || 0), 0);
  if (ranks.every((r) => sum(r, "planned") === 0 && sum(r, "measured") === 0)) {
    return card("traffic", "Traffic", lead("With one rank there is no collective: nothing is sent, planned or measured."),
      table(["rank", "planned bytes", "measured bytes"], ranks.map((r) => [r.rank, "0", "0"]), { label: "traffic" }));
  }
  const r0 = ranks[0];
  const lines = ranks.reduce((s, r) => s + r.lines, 0), equal = ranks.reduce((s, r) => s + r.traffic_as_planned, 0);
  const rows = ranks.flatMap((r) => kCollectives.map((c) => [
    "rank " + r.rank + ", " + words(c),
    ...["calls", "payload_bytes", "wire_bytes"].flatMap((k) => ["planned", "measured"].map((side) => whole(at(r, side, "traffic", c, k))))]));
  return card("traffic", "Traffic by collective", intro,
    tiles([[bytes(sum(r0, "planned")), "planned, rank " + r0.rank], [bytes(sum(r0, "measured")), "measured, rank " + r0.rank],
           [equal + " of " + lines, "lines of metrics as planned"]]),
    equal < lines ? notice("Some lines' traffic is not what was planned for their step.") : null,
    plot({ title: "Bytes sent a step by rank " + r0.rank, note: "scalars of all_reduce are a few bytes", x: { type: "category", title: "collective", labels: kCollectives.map(words) },
           y: { title: "bytes sent", format: bytes, beginAtZero: true },
           curves: ["planned", "measured"].map((side, k) => ({ label: side, color: k === 0 ? 6 : 0, kind: "bars",
             data: kCollectives.map((c) => at(r0, side, "traffic", c, "wire_bytes") || 0) })),
           heading: (items) => items[0].label }),
    table(["of the last step", "calls, planned", "measured", "payload, planned", "measured", "sent, planned", "measured"], rows, { label: "traffic", high: rows.length > 14 }));
}

// How much of the time of transfers compute hid: between 0 and 1.
function hiddenShare(split) {
  const all = object(split).communication, exposed = object(split).exposed_communication;
  return all > 0 && isNumber(exposed) ? Math.max(0, 1 - exposed / all) : undefined;
}

function timeCard(run) {
  const steps = object(run.steps), x = list(steps.step), split = object(steps.seconds);
  const ranks = list(run.rank_table), typical = object(at(ranks[0], "typical"));
  if (!hasNumbers(steps.step_seconds)) return card("time", "Time of a step", lead("Where a step's seconds go."), notice("No step with its seconds is in the run folder."));
  const parts = Object.keys(kParts).filter((k) => hasNumbers(split[k])), missing = Object.keys(kParts).filter((k) => !parts.includes(k));
  const rows = [...parts, ...kBeside.filter((k) => hasNumbers(split[k]))];
  const labels = ranks.map((r) => "rank " + r.rank), hidden = hiddenShare(typical.seconds);
  const told = { title: "time", format: seconds, beginAtZero: true };
  const tell = (item) => item.dataset.label + ": " + seconds(item.parsed.y);
  const sorted = steps.step_seconds.filter(isNumber).sort((a, b) => a - b), most = sorted[Math.floor(0.95 * (sorted.length - 1))];
  const cut = sorted.length > 4 && sorted[sorted.length - 1] > 4 * most;
  const left = typical.left_out === 1 ? "the first line, which touches memory and loads" : "the first " + typical.left_out + " lines, which touch memory and load";
  return card("time", "Time of a step",
    lead("Colours add up to the step: the more of it is compute, the better; exposed communication is what compute did not hide, and wait is for slower ranks."),
    tiles([[seconds(typical.step_seconds), "a step, the median"], [decimal(typical.tokens_per_second), "tokens/s of all ranks"],
           isNumber(typical.utilisation) ? [percent(typical.utilisation), "of peak FLOP/s"] : null,
           isNumber(at(typical, "seconds", "compute")) ? [percent(typical.seconds.compute / typical.step_seconds), "compute"] : null,
           isNumber(at(typical, "seconds", "exposed_communication")) ? [percent(typical.seconds.exposed_communication / typical.step_seconds), "exposed communication"] : null,
           isNumber(hidden) ? [percent(hidden), "of transfers hidden"] : null]),
    paragraph("Medians leave out " + left + " libraries.", "muted small"),
    missing.length ? notice("This run's metrics do not hold measured.seconds." + missing.join(", ") + ": they were made without these clocks.") : null,
    plot({ title: "Each step", note: "rank " + steps.rank + (cut ? "; cut off at the top are steps more than four times as long as most" : ""), stacked: true, x: stepAxis(x),
           y: cut ? { ...told, max: 4 * most } : told,
           curves: [...parts.map((k, i) => ({ label: words(k), data: points(x, split[k]), color: kParts[k], kind: "area", first: i === 0, stack: "parts", order: 1 })),
                    { label: "whole step", data: points(x, steps.step_seconds), color: 9, kind: "line", dots: "none", stack: "step" }],
           tooltip: tell, heading: (items) => "step " + items[0].parsed.x }),
    parts.length ? plot({ title: "The parts of a step, by rank", note: "medians", stacked: true, x: { type: "category", title: "rank", labels }, y: told,
      curves: parts.map((k) => ({ label: words(k), color: kParts[k], kind: "bars", stack: "parts", data: ranks.map((r) => at(r, "typical", "seconds", k) ?? null) })),
      tooltip: tell, heading: (items) => items[0].label }) : null,
    table(["median seconds", ...labels],
      [["step", ...ranks.map((r) => nanoseconds(at(r, "typical", "step_seconds")))],
       ...rows.map((k) => [words(k) + (k === "communication" ? ", hidden or exposed" : k === "micro_steps" ? ", all before the update" : ""),
                           ...ranks.map((r) => nanoseconds(at(r, "typical", "seconds", k)))])], { label: "seconds" }),
    folded("Every step in numbers", table(["step", "seconds", ...rows.map(words), "tokens/s", "bytes sent", "arena, resident"],
      x.map((s, k) => [s, exactly(steps.step_seconds[k]), ...rows.map((n) => exactly(split[n][k])), exactly(steps.tokens_per_second[k]),
                       whole(steps.wire_bytes[k]), whole(steps.memory_peak[k])]), { high: true, label: "seconds of every step" })));
}
