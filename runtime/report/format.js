// Numbers and elements. Text reaches the page by textContent alone.
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
const list = (x) => (Array.isArray(x) ? x : []);
const object = (x) => (x !== null && typeof x === "object" && !Array.isArray(x) ? x : {});
const at = (x, ...keys) => keys.reduce((here, key) => object(here)[key], x);

const plain = (x, digits = 3) =>
  isNumber(x) ? Number(x.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 12 }) : "–";
const whole = (x) => (isNumber(x) ? Math.round(x).toLocaleString("en-US") : "–");
// Seconds in full, to the nanosecond that clocks tell: a mean of two of them has digits beyond it.
const nanoseconds = (x) => (isNumber(x) ? String(Number(x.toFixed(9))) : "–");
// As it stands in the data: every digit.
const exactly = (x) => (x === null || x === undefined ? "–" : String(x));
function scaled(x, units, base, digits = 3) {
  if (!isNumber(x)) return "–";
  if (x === 0) return "0 " + units[0];
  let k = 0;
  for (let y = Math.abs(x); y >= base * 0.9995 && k + 1 < units.length; y /= base) ++k;
  const value = x / base ** k;
  return plain(value, Math.abs(value) >= 1000 ? 4 : digits) + " " + units[k];
}
const bytes = (x) => scaled(x, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 1024);
const decimal = (x, unit = "") =>
  scaled(x, ["", "k", "M", "G", "T", "P", "E"].map((p) => p + unit), 1000).trim();
function seconds(x) {
  if (!isNumber(x)) return "–";
  if (x === 0) return "0 s";
  const size = Math.abs(x);
  return size >= 1 ? plain(x) + " s" : size >= 1e-3 ? plain(x * 1e3) + " ms"
    : size >= 1e-6 ? plain(x * 1e6) + " µs" : plain(x * 1e9) + " ns";
}
const percent = (x, digits = 3) => (isNumber(x) ? plain(100 * x, digits) + " %" : "–");
const signedPercent = (x) => (isNumber(x) ? (x > 0 ? "+" : "") + plain(100 * x, 3) + " %" : "–");
const words = (name) => name.replaceAll("_", " ");

// element("p", {class: "muted"}, "text", child, [child, ...], ...): null children are left out.
function element(name, attributes, ...children) {
  const out = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) out.setAttribute(key, value);
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) out.append(child instanceof Node ? child : String(child));
  }
  return out;
}
const paragraph = (text, kind) => element("p", kind ? { class: kind } : null, text);
const lead = (text) => paragraph(text, "lead");

// The first column is a heading. A cell is text, an element, or {text, kind}.
function table(heads, rows, options = {}) {
  const cell = (value, tag) => {
    if (value instanceof Node) return element(tag, null, value);
    const given = object(value);
    return given.text !== undefined ? element(tag, { class: given.kind }, given.text) : element(tag, null, value);
  };
  return element("div", { class: options.high ? "scroll high" : "scroll", tabindex: "0", role: "region",
                          "aria-label": options.label || "table" },
    element("table", null,
      element("thead", null, element("tr", null, heads.map((h) => cell(h, "th")))),
      element("tbody", null, rows.map((row) =>
        element("tr", null, row.map((value, k) => cell(value, k === 0 ? "th" : "td")))))));
}
const folded = (title, ...children) => element("details", null, element("summary", null, title), children);
const notice = (...children) => element("div", { class: "notice", role: "note" }, children);
const bullets = (items) => element("ul", null, items.map((item) => element("li", null, item)));
function tiles(entries) {
  return element("div", { class: "tiles" }, entries.filter((e) => e).map(([value, name]) =>
    element("div", { class: "tile" }, element("b", null, value), element("span", null, name))));
}
