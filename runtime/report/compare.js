// Several runs beside each other: overview, scaling, prediction.
const median = (values) => {
  const sorted = values.filter(isNumber).sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length === 0 ? undefined : sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
// A run is as slow as its slowest rank.
const stepSeconds = (run) => {
  const all = list(run.rank_table).map((r) => at(r, "typical", "step_seconds")).filter(isNumber);
  return all.length ? Math.max(...all) : undefined;
};
const tokensPerSecond = (run) => at(list(run.rank_table)[0], "typical", "tokens_per_second");
const stageOf = (run) => at(run, "plan", "zero_stage");
const letter = (k) => (k < 26 ? String.fromCharCode(65 + k) : String(k + 1));
const groupsBy = (runs, key) => {
  const groups = new Map();
  for (const run of runs) {
    if (!groups.has(key(run))) groups.set(key(run), []);
    groups.get(key(run)).push(run);
  }
  return groups;
};

// The fields of the configurations that are not the same in all runs.
function differingFields(runs) {
  const maps = runs.map((run) => {
    const map = new Map();
    for (const [k, v] of list(run.config)) map.set(k, map.has(k) ? map.get(k) + ", " + v : v);
    return map;
  });
  const names = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  return names.filter((name) => new Set(maps.map((map) => map.get(name))).size > 1)
    .map((name) => [name, ...maps.map((map) => ({ text: map.get(name) ?? "–", kind: "text" }))]);
}

function runsCard(runs) {
  const models = [...groupsBy(runs, (run) => run.model_key).keys()], plans = [...groupsBy(runs, (run) => run.plan_hash || run.label).keys()];
  const rows = runs.map((run) => {
    const steps = object(run.steps), last = list(steps.loss).length - 1;
    return [run.label, letter(models.indexOf(run.model_key)), letter(plans.indexOf(run.plan_hash || run.label)), run.ranks || "–", exactly(stageOf(run)),
      at(run, "plan", "parameters") ? decimal(run.plan.parameters) : "–", last >= 0 ? steps.step[last] : "0",
      last >= 0 ? plain(steps.loss[last], 5) : "–", seconds(stepSeconds(run)), decimal(tokensPerSecond(run)),
      bytes(at(list(run.rank_table)[0], "measured", "memory", "peak")), list(run.problems).length ? { text: list(run.problems).length + " noted", kind: "wall-capacity" } : "none"];
  });
  const sameFolder = runs.map((run) => [run.label, { text: run.folder, kind: "text" }, { text: run.plan_hash || "not known", kind: "text" }]);
  const body = [
    lead("Every run of this page in a line. Runs with the same letter have the same model, or the same plan."),
    models.length > 1 ? notice("These runs are of " + models.length + " different models (letters A to " + letter(models.length - 1)
      + "): their losses, speeds and memory are not to be compared with each other.") : null,
    models.length === 1 && plans.length > 1 ? paragraph("All runs are of one model, but have " + plans.length + " different plans; what differs in their configurations stands below.") : null,
    table(["run", "model", "plan", "ranks", "stage", "parameters", "steps", "loss", "step time", "tokens/s", "peak memory", "problems"], rows, { label: "runs" }),
  ];
  const shown = runs.filter((run) => hasNumbers(at(run, "steps", "loss"))).slice(0, 24);
  if (shown.length > 1) {
    const end = Math.max(...shown.map((run) => run.steps.step[run.steps.step.length - 1]));
    body.push(plot({ title: "Loss of all runs", note: models.length > 1 ? "dashed: runs of other models than the first run's" : "one colour a run",
      x: { type: "linear", title: "training step", min: 0, suggestedMax: end, format: whole }, y: { title: "loss (nats a token)" },
      curves: shown.map((run, k) => ({ label: run.label + (models.length > 1 ? " (model " + letter(models.indexOf(run.model_key)) + ")" : ""),
        data: points(run.steps.step, run.steps.loss), color: k, kind: "line", dashed: run.model_key !== runs[0].model_key })),
      heading: (items) => "step " + items[0].parsed.x }));
  }
  const fields = runs.length > 1 ? differingFields(runs) : [];
  if (fields.length) {
    body.push(folded("Where the configurations differ (" + fields.length + " fields)",
      table(["field", ...runs.map((run) => ({ text: run.label, kind: "text" }))], fields, { label: "differing fields", high: true })));
  }
  body.push(folded("Folders and plans", table(["run", { text: "folder", kind: "text" }, { text: "plan", kind: "text" }], sameFolder, { label: "folders" })));
  return card("runs", "Runs", body);
}

const rankAxis = (counts) => ({ type: "logarithmic", title: "ranks", ticks: counts, min: Math.min(...counts) / 1.15, max: Math.max(...counts) * 1.15, format: whole });
const ranksFormat = (items) => items[0].parsed.x + (items[0].parsed.x === 1 ? " rank" : " ranks");

// Points of one curve: {ranks, speed, seconds, efficiency}. Against its smallest rank count.
function scalingPlots(series, scaling) {
  const counts = [...new Set(series.flatMap((s) => s.rows.map((r) => r.ranks)))].sort((a, b) => a - b);
  const curve = (key) => series.map((s, k) => ({ label: s.label, color: k, kind: "line", dots: true,
    data: points(s.rows.map((r) => r.ranks), s.rows.map((r) => r[key])) }));
  const base = series.map((s) => s.rows[0]).filter((r) => isNumber(r.speed))[0];
  const speed = curve("speed");
  if (base) {
    speed.push({ label: "ideal", color: 6, kind: "line", dashed: true, data: counts.map((n) => ({ x: n, y: base.speed * n / base.ranks })) });
  }
  const tick = (n) => whole(n);
  return element("div", { class: "plots two" },
    plot({ title: "Tokens a second", note: "of all ranks; dashed: as the smallest count, times the ranks", x: { ...rankAxis(counts), format: tick },
           y: { title: "tokens/s", format: (n) => decimal(n), beginAtZero: true }, curves: speed, tooltip: (i) => i.dataset.label + ": " + decimal(i.parsed.y), heading: ranksFormat }),
    plot({ title: "Efficiency", note: scaling === "strong" ? "of the smallest count's time a rank" : "of the smallest count's tokens a second and rank", x: { ...rankAxis(counts), format: tick },
           y: { title: "efficiency", format: (n) => percent(n), beginAtZero: true, suggestedMax: 1 },
           curves: curve("efficiency"), tooltip: (i) => i.dataset.label + ": " + percent(i.parsed.y), heading: ranksFormat }));
}

function scaleCard(scale, id) {
  const runs = list(scale.runs).filter((r) => isNumber(object(r).ranks));
  const done = runs.filter((r) => r.status === "done"), bad = runs.filter((r) => r.status !== "done");
  const stages = [...new Set(done.map((r) => r.zero_stage))].sort();
  const of = (stage) => done.filter((r) => r.zero_stage === stage).sort((a, b) => a.ranks - b.ranks);
  const series = stages.map((stage) => ({ label: "stage " + stage, rows: of(stage).map((r) => ({
    ranks: r.ranks, speed: r.tokens_per_second, seconds: r.step_seconds, efficiency: r.efficiency })) }));
  const body = [lead("How far more ranks are worth it: tokens a second should rise along the dashed line, and efficiency stay near 100 %. "
    + (scale.scaling === "strong" ? "Strong scaling: the global batch stays." : "Weak scaling: a rank's work stays.")
    + (scale.link ? " The link is " + scale.link + "." : ""))];
  if (bad.length) {
    body.push(notice(bad.length + " of " + runs.length + " runs of this sweep have no figures.",
      bullets(bad.map((r) => r.ranks + " ranks, stage " + r.zero_stage + ": " + r.status + (r.error ? ": " + r.error : "")))));
  }
  const lost = runs.filter((r) => r.problem);
  if (lost.length) body.push(notice(bullets(lost.map((r) => r.ranks + " ranks, stage " + r.zero_stage + ": " + r.problem))));
  if (!done.length) return card(id, "Scaling", body, notice("No run of this sweep is done."));
  body.push(scalingPlots(series, scale.scaling));
  const labels = done.map((r) => r.ranks + (r.ranks === 1 ? " rank" : " ranks") + ", stage " + r.zero_stage);
  const exposed = done.map((r) => at(r, "seconds", "exposed_communication"));
  const predicted = done.map((r) => at(r, "predicted", "step_seconds"));
  const bars = [{ label: "a step", color: 0, kind: "bars", data: done.map((r) => r.step_seconds ?? null) }];
  if (hasNumbers(exposed)) bars.push({ label: "of it exposed communication", color: 3, kind: "bars", data: exposed.map((v) => v ?? null) });
  if (hasNumbers(predicted)) bars.push({ label: "predicted", color: 6, kind: "bars", data: predicted.map((v) => v ?? null) });
  body.push(plot({ title: "Time of a step", note: "of the slowest rank, the median", x: { type: "category", title: "run", labels }, y: { title: "time", format: seconds, beginAtZero: true },
    curves: bars, tooltip: (i) => i.dataset.label + ": " + seconds(i.parsed.y), heading: (items) => items[0].label }));
  if (!hasNumbers(exposed)) body.push(paragraph("This sweep does not say how much communication was exposed.", "muted"));
  const wire = (r, side) => {
    const t = object(at(r, "traffic", side)), parts = Object.values(t).map((c) => (isNumber(c) ? c : at(c, "wire_bytes"))).filter(isNumber);
    return isNumber(at(r, "traffic", side)) ? r.traffic[side] : parts.length ? parts.reduce((a, b) => a + b, 0) : undefined;
  };
  body.push(plot({ title: "Bytes sent a step", note: "by a rank", x: { type: "category", title: "run", labels }, y: { title: "bytes sent", format: bytes, beginAtZero: true },
    curves: ["planned", "measured"].map((side, k) => ({ label: side, color: k === 0 ? 6 : 0, kind: "bars", data: done.map((r) => wire(r, side) ?? null) })),
    heading: (items) => items[0].label }));
  body.push(table(["run", "hosts", "step", "tokens/s", "efficiency", "exposed", "sent, planned", "sent, measured", "bus bandwidth", "predicted step", "error"],
    done.map((r, k) => [labels[k], exactly(r.hosts), seconds(r.step_seconds), plain(r.tokens_per_second, 5), percent(r.efficiency), seconds(exposed[k]),
      bytes(wire(r, "planned")), bytes(wire(r, "measured")), isNumber(r.bus_bandwidth) ? decimal(r.bus_bandwidth, "B/s") : "–",
      seconds(predicted[k]), signedPercent(r.prediction_error)]), { label: "scaling" }));
  body.push(paragraph("Folder " + scale.folder + ", configuration " + exactly(scale.config) + ", launch " + (typeof scale.launch === "string" ? scale.launch : JSON.stringify(scale.launch ?? null)) + ".", "muted small"));
  return card(id, "Scaling" + (data.scales.length > 1 ? ": " + scale.folder : ""), body);
}

// Curves of runs that differ in ranks and stage alone: run.scaling_key. What several runs with the
// same of both show is their median; of different plans only the first one's runs count.
function scalingSeries(members) {
  const lost = [];
  const series = [...groupsBy(members, stageOf).entries()].map(([stage, all]) => ({
    label: stage === undefined ? "stage not known" : "stage " + stage,
    rows: [...groupsBy(all, (run) => run.ranks).entries()].sort((a, b) => a[0] - b[0]).map(([ranks, same]) => {
      const runs = same.filter((run) => run.plan_hash === same[0].plan_hash);
      lost.push(...same.filter((run) => !runs.includes(run)));
      return { ranks, runs, speed: median(runs.map(tokensPerSecond)), seconds: median(runs.map(stepSeconds)) };
    }) }));
  for (const { rows } of series) {
    for (const row of rows) row.efficiency = row.speed / row.ranks / (rows[0].speed / rows[0].ranks);
  }
  return { series, lost };
}

// Of all runs of the page, whoever launched them; those of one sweep alone have their card already.
function runScalingCards(runs) {
  const out = [];
  const known = runs.filter((run) => run.scaling_key && run.ranks && isNumber(tokensPerSecond(run)));
  for (const members of groupsBy(known, (run) => run.scaling_key).values()) {
    if (new Set(members.map((run) => run.ranks)).size < 2) continue;
    if (members[0].sweep && members.every((run) => run.sweep === members[0].sweep)) continue;
    const { series, lost } = scalingSeries(members);
    out.push(card("scaling-" + out.length, "Scaling by ranks" + (out.length ? " (" + (out.length + 1) + ")" : ""),
      lead("Runs that differ in ranks and stage alone, as the table names them: tokens a second should rise along the dashed line."),
      lost.length ? notice("Left out, for their plans are not those of the runs beside them: " + lost.map(runName).join(", ") + ".") : null,
      scalingPlots(series, "weak"),
      table(["ranks and stage", { text: "runs", kind: "text" }, "step, median", "tokens/s", "efficiency"], series.flatMap((s) => s.rows.map((r) => [
        r.ranks + (r.ranks === 1 ? " rank, " : " ranks, ") + s.label, { text: r.runs.map(runName).join(", "), kind: "text wrap" }, seconds(r.seconds), plain(r.speed, 5), percent(r.efficiency)])), { label: "scaling" })));
  }
  return out;
}

function predictionCard(runs) {
  const known = runs.filter((run) => isNumber(at(run, "prediction", "error"))), lost = runs.filter((run) => at(run, "prediction", "problem"));
  const body = [lead("A step as " + data.cluster + " predicts it beside the measured one: bars of a pair should be equal within a few percent.")];
  if (lost.length) body.push(notice("Some runs are not predicted.", bullets(lost.map((run) => run.label + ": " + run.prediction.problem))));
  if (!known.length) return card("prediction", "Prediction", body);
  const errors = known.map((run) => Math.abs(run.prediction.error));
  body.push(tiles([[percent(median(errors)), "median error"], [percent(Math.max(...errors)), "largest error"], [known.length, known.length === 1 ? "run" : "runs"]]),
    plot({ title: "Time of a step, predicted and measured", x: { type: "category", title: "run", labels: known.map(runName) },
      y: { title: "time", format: seconds, beginAtZero: true },
      curves: [["predicted", "predicted_seconds", 6], ["measured", "measured_seconds", 0]].map(([label, key, c]) => ({ label, color: c, kind: "bars", data: known.map((run) => run.prediction[key]) })),
      tooltip: (i) => i.dataset.label + ": " + seconds(i.parsed.y), heading: (items) => items[0].label }),
    table(["run", "predicted, s", "measured, s", "error", "of it compute", "communication", "exposed", "steps compared"],
      known.map((run) => [run.label, nanoseconds(run.prediction.predicted_seconds), nanoseconds(run.prediction.measured_seconds), signedPercent(run.prediction.error),
        seconds(at(run, "prediction", "seconds", "compute")), seconds(at(run, "prediction", "seconds", "communication")),
        seconds(at(run, "prediction", "seconds", "exposed_communication")), exactly(run.prediction.steps)]), { label: "prediction" }));
  return card("prediction", "Prediction error", body);
}
