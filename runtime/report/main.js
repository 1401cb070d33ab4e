const data = JSON.parse(document.getElementById("data").textContent);

// Short names that tell runs apart: the folder's, and more of its path where two are alike.
function nameRuns(runs) {
  for (const run of runs) run.label = run.name || run.folder;
  for (const same of groupsBy(runs, (run) => run.label).values()) {
    if (same.length > 1) for (const run of same) run.label = run.folder;
  }
}

// The run in a line of figures, above everything.
function summaryOf(run) {
  const steps = object(run.steps), last = list(steps.loss).length - 1, rank = object(list(run.rank_table)[0]);
  const known = list(at(run, "wall", "generations")).filter((g) => g.placement), newest = known.filter((g) => isNumber(g.year)).pop();
  const sent = at(run, "wall", "work", "link_bytes");
  return [tiles([
    run.ranks ? [run.ranks, run.ranks === 1 ? "rank" : "ranks"] : null,
    last >= 0 ? [plain(steps.loss[last], 5), "loss at step " + steps.step[last]] : null,
    [seconds(stepSeconds(run)), "a step"], [decimal(tokensPerSecond(run)), "tokens/s"],
    [bytes(at(rank, "measured", "memory", "peak")), "arena of a rank, measured"],
    isNumber(sent) ? [bytes(sent), "sent by a rank and step"] : null,
    newest ? [newest.placement.wall === "dram" ? "DRAM" : newest.placement.wall, "the wall on " + newest.name] : null,
  ].filter((entry) => entry && entry[0] !== "–")), problemsOf(run)];
}

function chapters(run, oneOfMany) {
  return [settingsCard(run, oneOfMany), lossCard(run), memoryCard(run), liveCard(run), trafficCard(run), timeCard(run), wallCard(run)];
}

function start() {
  const runs = list(data.runs), scales = list(data.scales);
  nameRuns(runs);
  const title = runs.length === 1 ? runs[0].title || runs[0].label : runs.length + " runs";
  document.title = title + " · Memwall report";
  document.getElementById("title").textContent = title;
  document.getElementById("subtitle").textContent = (runs.length === 1 ? runs[0].folder + " · " : "") + "made " + data.made + " by memwall " + data.memwall;
  document.getElementById("footer").textContent = "Made by: " + list(data.command).join(" ");

  const content = document.getElementById("content");
  const general = [...(runs.length > 1 ? [runsCard(runs)] : []), ...scales.map((scale, k) => scaleCard(scale, "scale-" + k)), ...runScalingCards(runs)];
  if (data.cluster) general.push(predictionCard(runs));
  const one = element("div", { id: "run" });
  if (runs.length === 1) document.getElementById("summary").append(...summaryOf(runs[0]).filter((part) => part));
  content.append(...general);
  if (runs.length > 1) {
    const select = element("select", { id: "chosen" }, runs.map((run, k) => element("option", { value: String(k) }, run.label)));
    select.addEventListener("change", () => show(Number(select.value)));
    content.append(element("div", { class: "chooser" }, element("label", { for: "chosen" }, "The chapters below are of run"), select));
  }
  content.append(one);

  function show(k) {
    one.replaceChildren(...(runs[k] ? chapters(runs[k], runs.length > 1) : [notice("There is no run folder to show.")]));
    drawPlots();
  }
  show(0);
  const links = [...content.querySelectorAll("section.card")].map((section) =>
    element("li", null, element("a", { href: "#" + section.id }, section.querySelector("h2").textContent)));
  document.getElementById("index").append(element("ol", null, links));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawPlots);
  document.documentElement.dataset.ready = "yes";
}
start();
