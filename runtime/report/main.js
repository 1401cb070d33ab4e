const data = JSON.parse(document.getElementById("data").textContent);

// Short names that tell runs apart: the folder's, and more of its path where two are alike.
function nameRuns(runs) {
  for (const run of runs) run.label = run.name || run.folder;
  for (const same of groupsBy(runs, (run) => run.label).values()) {
    if (same.length > 1) for (const run of same) run.label = run.folder;
  }
}

function chapters(run) {
  return [settingsCard(run), lossCard(run), memoryCard(run), liveCard(run), trafficCard(run), timeCard(run), wallCard(run)];
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
  const general = [runsCard(runs), ...scales.map((scale, k) => scaleCard(scale, "scale-" + k)), ...runScalingCards(runs)];
  if (data.cluster) general.push(predictionCard(runs));
  const one = element("div", { id: "run" });
  content.append(...general);
  if (runs.length > 1) {
    const select = element("select", { id: "chosen" }, runs.map((run, k) => element("option", { value: String(k) }, run.label)));
    select.addEventListener("change", () => show(Number(select.value)));
    content.append(element("div", { class: "chooser" }, element("label", { for: "chosen" }, "The chapters below are of run"), select));
  }
  content.append(one);

  function show(k) {
    one.replaceChildren(...(runs[k] ? chapters(runs[k]) : [notice("There is no run folder to show.")]));
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
