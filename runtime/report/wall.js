// The memory wall: the run beside generations of hardware, and beside their trends.
const kWallNames = { capacity: "capacity", compute: "compute", dram: "DRAM bandwidth", link: "link" };

// Least squares of log(y) over x: {at(x), growth in two years}.
function trendOf(pairs) {
  const n = pairs.length, xs = pairs.map((p) => p[0]), ys = pairs.map((p) => Math.log(p[1]));
  const mx = xs.reduce((a, b) => a + b, 0) / n, my = ys.reduce((a, b) => a + b, 0) / n;
  const slope = xs.reduce((s, x, k) => s + (x - mx) * (ys[k] - my), 0) / xs.reduce((s, x) => s + (x - mx) ** 2, 0);
  return { slope, at: (x) => Math.exp(my + slope * (x - mx)), growth: Math.exp(2 * slope) };
}

function inWords(g) {
  const p = g.placement;
  const times = (x) => plain(x, 2) + " times";
  const slowest = Math.max(p.compute_seconds, p.dram_seconds, p.link_seconds);
  const share = (x) => percent(x / slowest, 2);
  if (p.wall === "capacity") return "Does not fit: the plan needs " + times(p.capacity_share) + " the device's memory.";
  if (p.wall === "compute") {
    return "Arithmetic takes the longest: DRAM is busy for " + share(p.dram_seconds) + " of that time" + (p.link_seconds > 0 ? ", the link for " + share(p.link_seconds) : "") + ".";
  }
  if (p.wall === "dram") return "Arithmetic waits for memory: DRAM takes " + times(p.dram_seconds / p.compute_seconds) + " as long as the FLOPs.";
  return "All wait for the link: it takes " + times(p.link_seconds / Math.max(p.compute_seconds, p.dram_seconds)) + " as long as the rest, unless overlapped.";
}

function wallVerdict(known) {
  const stretches = [];
  for (const g of known) {
    const last = stretches[stretches.length - 1];
    if (last && last.wall === g.placement.wall) last.names.push(g.name); else stretches.push({ wall: g.placement.wall, names: [g.name] });
  }
  return stretches.map((s) => kWallNames[s.wall] + " on " + (s.names.length > 2 ? s.names[0] + " to " + s.names[s.names.length - 1] : s.names.join(" and "))).join(", ");
}

const wallCell = (wall) => element("span", { class: "wall wall-" + wall }, kWallNames[wall]);

// What generations offer, by year, beside what the run asks for. `of(generation)` is the offer;
// `trend`, if any, a growth rate a year, drawn through A100.
function yearPlot(known, of, run, names, trend) {
  const dated = known.filter((g) => isNumber(g.year) && of(g) > 0), undated = known.filter((g) => !isNumber(g.year) && of(g) > 0);
  if (!dated.length || !(run > 0) || !Number.isFinite(run)) return null;
  const anchor = dated.find((g) => g.name === "A100") || dated[dated.length - 1], years = [2015, 2025];
  const line = (label, color, y, dashed) => ({ label, color, kind: "line", dashed, data: years.map((x) => ({ x, y: y(x) })) });
  return plot({
    title: names.title, note: names.note, nearest: true, x: { type: "linear", title: "year", min: years[0], max: years[1], format: (y) => String(y), step: 1 },
    y: { type: "logarithmic", title: names.unit, format: (n) => names.told(n) },
    curves: [
      { label: names.offer, color: 0, kind: "points", data: dated.map((g) => ({ x: g.year, y: of(g), name: g.name })) },
      line("this run: " + names.told(run) + (names.told(run).endsWith("B") ? "" : " " + names.unit), 3, () => run),
      ...(trend ? [line("trend of the published series, through " + anchor.name, 6, (x) => of(anchor) * Math.exp(trend * (x - anchor.year)), true)] : []),
      ...undated.map((g, k) => line(g.name, 5 + 3 * k, () => of(g), true)),
    ],
    tooltip: (item) => (item.raw.name || item.dataset.label) + ": " + names.told(item.parsed.y), heading: () => "",
  });
}

function rooflinePlot(run, known, intensity) {
  const wall = run.wall, parts = list(wall.parts).filter((p) => p.flops > 0 && p.dram_bytes > 0 && p.dram_bytes > wall.work.dram_bytes / 1000);
  const lows = [...parts.map((p) => p.flops / p.dram_bytes), intensity, ...known.map((g) => g.placement.dram_ridge)];
  const min = 10 ** Math.floor(Math.log10(Math.min(...lows) / 1.5)), max = 10 ** Math.ceil(Math.log10(Math.max(...lows) * 1.5));
  const roof = (g, x) => Math.min(g.flops, g.dram_bandwidth * x), newest = known.filter((g) => isNumber(g.year)).pop() || known[known.length - 1];
  const measured = stepSeconds(run);
  const hues = [0, 1, 2, 4, 5, 7, 9];
  const curves = known.map((g, k) => ({ label: g.name, color: hues[k % hues.length], kind: "line", dots: "none", order: 2,
    data: [min, g.placement.dram_ridge, max].map((x) => ({ x, y: roof(g, x) })) }));
  curves.push({ label: "this run, at each roof", color: 3, kind: "points", order: 0, shape: "rectRot", data: known.map((g) => ({ x: intensity, y: roof(g, intensity), name: "this run on " + g.name })) });
  curves.push({ label: "its parts, under the roof of " + newest.name, color: 6, kind: "points", order: 1,
    data: parts.map((p) => ({ x: p.flops / p.dram_bytes, y: roof(newest, p.flops / p.dram_bytes), name: words(p.name) })) });
  if (isNumber(measured)) {
    curves.push({ label: "this run, as measured", color: 8, kind: "points", order: 0, shape: "triangle", data: [{ x: intensity, y: wall.work.flops / measured, name: "measured on this run's machine, a rank" }] });
  }
  return plot({ title: "Rooflines", note: "left of a bend DRAM is the wall, right of it arithmetic; " + wall.precision + " peaks", tall: true, nearest: true,
    x: { type: "logarithmic", title: "FLOP per byte of DRAM", min, max, format: (n) => decimal(n) }, y: { type: "logarithmic", title: "FLOP/s a device", format: (n) => decimal(n) },
    curves, tooltip: (item) => (item.raw.name || item.dataset.label) + ": " + plain(item.parsed.x) + " FLOP/byte, " + decimal(item.parsed.y, "FLOP/s"), heading: () => "" });
}

function trendsPlot() {
  const series = Object.values(object(data.trends.series));
  const curves = series.flatMap((s, k) => {
    const fit = trendOf(s.points), first = s.points[0][0], last = s.points[s.points.length - 1][0];
    return [{ label: s.name + " (" + s.unit + ")", color: [0, 1, 4][k], kind: "points", data: s.points.map(([x, y]) => ({ x, y })) },
            { label: "×" + plain(fit.growth, 2) + " in 2 years", color: [0, 1, 4][k], kind: "line", dashed: true, data: [first, last].map((x) => ({ x, y: fit.at(x) })) }];
  });
  return plot({ title: "Trends of hardware", note: "arithmetic has grown faster than what feeds it; each series in units of its own first point", nearest: true,
    x: { type: "linear", title: "year", min: 1996, max: 2024, format: (y) => String(y), step: 4 }, y: { type: "logarithmic", title: "times the first point", format: (n) => decimal(n) },
    curves, tooltip: (item) => item.dataset.label + ": " + decimal(item.parsed.y) + " in " + plain(item.parsed.x, 6).replace(",", ""), heading: () => "" });
}

function wallTables(wall, known, none) {
  const sends = wall.work.link_bytes > 0;
  return [
    table(["generation", "wall", { text: "in plain words", kind: "text" }, "DRAM ridge, FLOP/byte", ...(sends ? ["link ridge, FLOP/byte"] : []), "arithmetic", "DRAM", ...(sends ? ["link"] : []), "of its memory"],
      known.map((g) => [g.name + (isNumber(g.year) ? " (" + Math.floor(g.year) + ")" : ""), wallCell(g.placement.wall), { text: inWords(g), kind: "text wrap" },
        plain(g.placement.dram_ridge), ...(sends ? [plain(g.placement.link_ridge)] : []), seconds(g.placement.compute_seconds),
        seconds(g.placement.dram_seconds), ...(sends ? [seconds(g.placement.link_seconds)] : []), percent(g.placement.capacity_share)]), { label: "walls by generation" }),
    none.length ? paragraph("Without " + wall.precision + ", and so left out: " + none.map((g) => g.name).join(", ") + ".", "muted small") : null,
    folded("The hardware's figures and their sources", table(["generation", "peak FLOP/s", "DRAM", "link, one direction", "NIC share, one direction", "memory", { text: "source", kind: "text" }],
      [...known, ...none].map((g) => [g.name, isNumber(g.flops) ? decimal(g.flops) : "–", decimal(g.dram_bandwidth, "B/s"), decimal(g.link_bandwidth, "B/s"), decimal(g.nic_bandwidth, "B/s"),
        decimal(g.memory_bytes, "B"), { text: g.source, kind: "text wrap" }]), { label: "hardware" })),
    folded("The parts of this run's step", table(["kind of step", "calls", "FLOPs", "DRAM bytes", "FLOP/byte"],
      list(wall.parts).map((p) => [words(p.name), whole(p.calls), whole(p.flops), whole(p.dram_bytes), p.dram_bytes > 0 ? plain(p.flops / p.dram_bytes) : "–"]), { label: "parts", high: true })),
  ];
}

function wallCard(run) {
  const wall = object(run.wall), work = object(wall.work);
  if (!isNumber(work.flops)) {
    return card("wall", "The memory wall", lead("Which limit of the hardware this run meets first needs the plan."), notice("The plan could not be compiled again from this folder."), trendsPlot());
  }
  const known = list(wall.generations).filter((g) => g.placement), none = list(wall.generations).filter((g) => !g.placement);
  const intensity = work.flops / work.dram_bytes, linkIntensity = work.link_bytes > 0 ? work.flops / work.link_bytes : Infinity;
  const series = object(data.trends.series);
  const fit = (key) => trendOf(series[key].points).slope;
  const dramTrend = fit("flops") - fit("dram"), linkTrend = fit("flops") - fit("interconnect");
  const longest = known.map((g) => Math.max(g.placement.compute_seconds, g.placement.dram_seconds, g.placement.link_seconds));
  const spread = Math.max(...longest) > 20 * Math.min(...longest) ? { type: "logarithmic" } : { beginAtZero: true };
  const nodeLink = work.ranks <= wall.ranks_of_a_node ? "the links inside a node" : "each rank's share of its node's NICs";
  return card("wall", "The memory wall",
    lead("The largest of three times is the wall: arithmetic, bytes of DRAM, bytes of the link; a plan that does not fit meets capacity before any. This run meets " + wallVerdict(known) + "."),
    tiles([[decimal(work.flops), "FLOPs, a rank and step"], [bytes(work.dram_bytes), "to and from DRAM"], [bytes(work.link_bytes), "sent over the link"], [bytes(work.held_bytes), "held"],
           [plain(intensity), "FLOP per byte of DRAM"], [Number.isFinite(linkIntensity) ? decimal(linkIntensity) : "none sent", "FLOP per byte sent"]]),
    wallTables(wall, known, none),
    plot({ title: "Time of the step's work on each generation", note: "at peak rates, so each a bound from below; the tallest bar of a group is its wall; link: " + nodeLink,
      x: { type: "category", title: "generation", labels: known.map((g) => g.name) }, y: { title: "seconds at peak", format: seconds, ...spread },
      curves: [["arithmetic", "compute_seconds", 0], ["DRAM", "dram_seconds", 1], ...(work.link_bytes > 0 ? [["link", "link_seconds", 4]] : [])].map(([label, key, c]) => ({ label, color: c, kind: "bars", data: known.map((g) => g.placement[key]) })),
      tooltip: (i) => i.dataset.label + ": " + seconds(i.parsed.y), heading: (items) => items[0].label }),
    rooflinePlot(run, known, intensity),
    element("div", { class: "plots two" },
      yearPlot(known, (g) => g.placement.dram_ridge, intensity, { title: "The DRAM wall by year", unit: "FLOP/byte", offer: "ridge points of generations", told: (n) => plain(n),
        note: "where a generation stands above the run's line, the run waits for DRAM there; ridge points grow ×" + plain(Math.exp(2 * dramTrend), 2) + " in 2 years" }, dramTrend),
      yearPlot(known, (g) => g.placement.link_ridge, linkIntensity, { title: "The link wall by year", unit: "FLOP/byte", offer: "ridge points of generations", told: (n) => plain(n),
        note: "the same for " + nodeLink + "; ×" + plain(Math.exp(2 * linkTrend), 2) + " in 2 years" }, linkTrend),
      yearPlot(known, (g) => g.memory_bytes, work.held_bytes, { title: "The capacity wall by year", unit: "bytes", offer: "memory of a device", told: (n) => decimal(n, "B"),
        note: "a generation below the run's line cannot hold it" }),
      trendsPlot()),
    work.link_bytes > 0 ? null : paragraph("One rank sends nothing: there is no link wall.", "muted"),
    folded("How these figures come about",
      paragraph("FLOPs are the plan's: model (6 per weight of a product and token, attention whole), recomputed and tangent. DRAM bytes count each step's operands once, read and written, so that caches which hold an operand from one step to the next would lower them. Bytes sent are a rank's. A ridge point is peak FLOP/s divided by bandwidth: with fewer FLOPs a byte than that, the bytes take longer."),
      paragraph("Trends: " + data.trends.source + ". " + data.trends.license + ".")),
    folded("The trends in numbers", table(["series", "year", "value"], Object.values(series).flatMap((s) => s.points.map(([x, y]) => [s.name, String(x), exactly(y)])), { high: true, label: "trends" })));
}
