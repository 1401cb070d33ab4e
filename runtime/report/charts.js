// Plots: a title, a canvas by Chart.js, and keys that hide and show a curve.
const plots = [];  // to be drawn again when the screen turns dark or light

const color = (k) => getComputedStyle(document.documentElement).getPropertyValue("--c" + (k % 10)).trim();
const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");

// What a curve looks like: {label, data, color (index), kind: "line" | "area" | "points" | "bars",
// dashed, dots (a mark at each point; "none": at no point), stack, order}
function dataset(curve) {
  const stroke = color(curve.color);
  const points = curve.kind === "points";
  const few = curve.kind === "line" && curve.data.length > 2 && curve.data.length <= 40 && !curve.dashed;
  return {
    label: curve.label, data: curve.data, type: curve.kind === "bars" ? "bar" : points ? "scatter" : "line",
    borderColor: stroke,
    backgroundColor: curve.kind === "area" ? faded(stroke, 0.55) : curve.kind === "bars" ? faded(stroke, 0.85) : stroke,
    borderWidth: curve.kind === "area" ? 1 : curve.kind === "bars" ? 0 : 2,
    borderDash: curve.dashed ? [6, 4] : [],
    fill: curve.kind === "area" ? (curve.first ? "origin" : "-1") : false,
    stepped: curve.stepped ? "after" : false,
    pointRadius: points ? 5 : curve.dots === "none" ? 0 : curve.dots || few ? 3 : 0,
    pointHoverRadius: points ? 7 : 4, pointHitRadius: 8, pointStyle: curve.shape || "circle",
    showLine: !points, stack: curve.stack, order: curve.order || 0, spanGaps: false,
    tension: 0, maxBarThickness: 96, categoryPercentage: 0.7,
  };
}

function axis(given, stacked) {
  const grid = themed("grid"), text = themed("muted");
  const out = {
    type: given.type || "linear", stacked, title: { display: true, text: given.title, color: text, font: { size: 13 } },
    grid: { color: grid, borderColor: themed("line") },
    ticks: { color: text, font: { size: 12 }, maxRotation: given.type === "category" ? 40 : 0, autoSkipPadding: 14 },
  };
  for (const key of ["min", "max", "beginAtZero", "labels", "suggestedMin", "suggestedMax", "offset"]) {
    if (given[key] !== undefined) out[key] = given[key];
  }
  if (given.format && given.type !== "category") out.ticks.callback = (value) => given.format(value);
  if (given.ticks) {
    out.afterBuildTicks = (scale) => { scale.ticks = given.ticks.map((value) => ({ value })); };
    out.ticks.autoSkip = false;
  } else if (given.type === "logarithmic") {
    out.afterDataLimits = (scale) => {
      if (given.min === undefined) scale.min = roundDown(scale.min / 1.2);
      if (given.max === undefined) scale.max = roundUp(scale.max * 1.2);
    };
    out.afterBuildTicks = (scale) => { scale.ticks = logarithmicTicks(scale.min, scale.max).map((value) => ({ value })); };
  } else if (given.format === bytes) {
    const step = (scale) => 2 ** Math.ceil(Math.log2(Math.max(8, scale.max) / 8));
    out.afterDataLimits = (scale) => { scale.max = Math.max(1, Math.ceil(scale.max * 1.02 / step(scale))) * step(scale); };
    out.afterBuildTicks = (scale) => {
      scale.ticks = [];
      for (let k = 0; k < 10 && k * step(scale) <= scale.max; ++k) scale.ticks.push({ value: k * step(scale) });
    };
  }
  if (given.step) out.ticks.stepSize = given.step;
  return out;
}
// 1, 2 or 5 times a power of ten, not above x or not below it.
function roundDown(x) {
  const power = 10 ** Math.floor(Math.log10(x) + 1e-9), rest = x / power + 1e-9;
  return power * (rest >= 5 ? 5 : rest >= 2 ? 2 : 1);
}
function roundUp(x) {
  const down = roundDown(x), first = down / 10 ** Math.floor(Math.log10(down) + 1e-9);
  return down >= x * (1 - 1e-9) ? down : down * (first < 1.5 || first > 4 ? 2 : 2.5);
}
// Few powers of ten get 2 and 5 between them; of many, every second or third one stays.
function logarithmicTicks(min, max) {
  const low = Math.floor(Math.log10(min) - 1e-9), high = Math.ceil(Math.log10(max) + 1e-9), out = [];
  const decades = Math.log10(max / min), stride = Math.ceil(decades / 9);
  for (let power = low; power <= high; ++power) {
    if (((power % stride) + stride) % stride !== 0) continue;
    for (const digit of decades <= 2.5 ? [1, 2, 5] : [1]) {
      const value = Number((digit * 10 ** power).toPrecision(3));
      if (value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9)) out.push(value);
    }
  }
  return out;
}

// Vertical lines with a word at their head: given.marks = [{x, label}].
const marker = {
  id: "marker",
  afterDatasetsDraw(chart, _, options) {
    const { ctx, chartArea: area, scales } = chart;
    ctx.save();
    ctx.font = "12px system-ui, sans-serif";
    ctx.textBaseline = "top";
    ctx.strokeStyle = ctx.fillStyle = themed("text");
    let free = area.left;
    for (const mark of list(options.marks)) {
      const x = scales.x.getPixelForValue(mark.x);
      ctx.globalAlpha = 0.45;
      ctx.setLineDash([3, 3]);
      ctx.beginPath();
      ctx.moveTo(x, area.top);
      ctx.lineTo(x, area.bottom);
      if (x > area.left + 1) ctx.stroke();
      const width = ctx.measureText(mark.label).width;
      ctx.globalAlpha = 1;
      const left = Math.min(x + 5, area.right - width);
      if (left >= free) ctx.fillText(mark.label, left, area.top + 4);
      if (left >= free) free = left + width + 6;
    }
    ctx.restore();
  },
};

// plot({title, note, x, y, curves, marks, tall, tooltip(item) -> text, heading(items) -> text})
function plot(given) {
  const canvas = element("canvas", { role: "img", "aria-label": given.title + ": " + given.x.title + ", " + given.y.title });
  const keys = element("ul", { class: "keys" });
  const figure = element("figure", null,
    element("figcaption", null, given.title, given.note ? element("small", null, given.note) : null),
    element("div", { class: given.tall ? "plot tall" : "plot" }, canvas), keys);
  plots.push({ given, canvas, keys, chart: null });
  return figure;
}

function draw(entry) {
  const { given, canvas, keys } = entry;
  const hidden = entry.chart ? given.curves.map((_, k) => !entry.chart.isDatasetVisible(k)) : [];
  if (entry.chart) entry.chart.destroy();
  const stacked = given.stacked || false;
  entry.chart = new Chart(canvas, {
    type: given.curves[0] && given.curves[0].kind === "bars" ? "bar" : "line",
    data: { labels: given.x.labels, datasets: given.curves.map(dataset) },
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, normalized: true,
      indexAxis: given.sideways ? "y" : "x",
      interaction: { mode: given.nearest ? "nearest" : "index", intersect: false, axis: given.nearest ? "xy" : given.sideways ? "y" : "x" },
      scales: { x: axis(given.sideways ? given.y : given.x, stacked), y: axis(given.sideways ? given.x : given.y, stacked) },
      plugins: {
        legend: { display: false }, marker: { marks: given.marks },
        tooltip: {
          callbacks: {
            title: (items) => (given.heading ? given.heading(items) : given.x.title + " " + items[0].label),
            label: (item) => (given.tooltip ? given.tooltip(item)
              : item.dataset.label + ": " + (given.y.format || plain)(given.sideways ? item.parsed.x : item.parsed.y)),
          },
        },
      },
    },
    plugins: given.marks ? [marker] : [],
  });
  hidden.forEach((gone, k) => { if (gone) entry.chart.setDatasetVisibility(k, false); });
  if (hidden.some((gone) => gone)) entry.chart.update();
  keys.replaceChildren(...given.curves.map((curve, k) => key(entry, curve, k)));
}

function key(entry, curve, k) {
  const mark = element("i", { class: curve.kind === "points" ? "dot" : curve.kind === "line" ? "" : "box" });
  mark.style[curve.kind === "line" ? "borderTopColor" : "backgroundColor"] = color(curve.color);
  if (curve.dashed) mark.style.borderTopStyle = "dashed";
  const visible = entry.chart.isDatasetVisible(k);
  const button = element("button", { type: "button", "aria-pressed": String(visible), title: "hide or show" }, mark, curve.label);
  button.addEventListener("click", () => {
    const now = !entry.chart.isDatasetVisible(k);
    entry.chart.setDatasetVisibility(k, now);
    entry.chart.update();
    button.setAttribute("aria-pressed", String(now));
  });
  return element("li", null, button);
}

// Draws what is on the page, and forgets what no longer is.
function drawPlots() {
  for (let k = plots.length - 1; k >= 0; --k) {
    if (plots[k].canvas.isConnected) continue;
    if (plots[k].chart) plots[k].chart.destroy();
    plots.splice(k, 1);
  }
  for (const entry of plots) if (!entry.chart) draw(entry);
}
function redrawPlots() {
  for (const entry of plots) draw(entry);
}

const points = (x, y) => list(x).map((value, k) => ({ x: value, y: isNumber(list(y)[k]) ? y[k] : null }));
const hasNumbers = (column) => list(column).some(isNumber);
