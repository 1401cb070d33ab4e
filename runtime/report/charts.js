// Plots: a title, a canvas by Chart.js, and keys that hide and show a curve.
const plots = [];  // to be drawn again when the screen turns dark or light

const color = (k) => getComputedStyle(document.documentElement).getPropertyValue("--c" + (k % 10)).trim();
const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");

// What a curve looks like: {label, data, color (index), kind: "line" | "area" | "points" | "bars",
// dashed, stack, order}
function dataset(curve) {
  const stroke = color(curve.color);
  const points = curve.kind === "points";
  const few = curve.data.length <= 40;
  return {
    label: curve.label, data: curve.data, type: curve.kind === "bars" ? "bar" : points ? "scatter" : "line",
    borderColor: stroke,
    backgroundColor: curve.kind === "area" ? faded(stroke, 0.55) : curve.kind === "bars" ? faded(stroke, 0.85) : stroke,
    borderWidth: curve.kind === "area" ? 1 : curve.kind === "bars" ? 0 : 2,
    borderDash: curve.dashed ? [6, 4] : [],
    fill: curve.kind === "area" ? (curve.first ? "origin" : "-1") : false,
    stepped: curve.stepped ? "after" : false,
    pointRadius: points ? 5 : curve.dots || (few && curve.kind !== "area" && !curve.dashed) ? 3 : 0,
    pointHoverRadius: points ? 7 : 4, pointHitRadius: 8, pointStyle: curve.shape || "circle",
    showLine: !points, stack: curve.stack, order: curve.order || 0, spanGaps: false,
    tension: 0, maxBarThickness: 44,
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
  if (given.format && given.type !== "category") {
    out.ticks.callback = (value) => (given.type === "logarithmic" && !isPowerTick(value) ? null : given.format(value));
  }
  if (given.ticks) {
    out.afterBuildTicks = (scale) => { scale.ticks = given.ticks.map((value) => ({ value })); };
    out.ticks.autoSkip = false;
  }
  if (given.step) out.ticks.stepSize = given.step;
  return out;
}
// Of a logarithmic axis only 1, 10, 100, ... bear numbers.
function isPowerTick(value) {
  const power = Math.log10(value);
  return Math.abs(power - Math.round(power)) < 1e-9;
}

// plot({title, note, x, y, curves, tall, tooltip(item) -> text, heading(items) -> text, bars})
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
        legend: { display: false },
        tooltip: {
          callbacks: {
            title: (items) => (given.heading ? given.heading(items) : given.x.title + " " + items[0].label),
            label: (item) => (given.tooltip ? given.tooltip(item)
              : item.dataset.label + ": " + (given.y.format || plain)(given.sideways ? item.parsed.x : item.parsed.y)),
          },
        },
      },
    },
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
