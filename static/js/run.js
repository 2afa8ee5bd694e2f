// Live curves of a run: one small uPlot per metric, refreshed while the run is active.

const holder = document.getElementById("curves");
const plots = new Map();
const EVERY_MS = 3000;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A computed colour, because canvases do not know light-dark().
function inked(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  holder.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value || colour(name);
}

function options(width) {
  const axis = { stroke: inked("--ink-soft"), grid: { stroke: inked("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: 150,
    legend: { show: false },
    cursor: { y: false },
    scales: { x: { time: false } },
    axes: [axis, { ...axis, size: 60 }],
    series: [{}, { stroke: inked("--accent"), width: 2, spanGaps: true }],
  };
}

function draw(title, steps, values) {
  if (!plots.has(title)) {
    const box = document.createElement("figure");
    box.className = "curve";
    const heading = document.createElement("h3");
    heading.textContent = title;
    const canvas = document.createElement("div");
    box.append(heading, canvas);
    box.setAttribute("role", "img");
    holder.append(box);
    plots.set(title, { box, plot: new uPlot(options(box.clientWidth - 26), [[], []], canvas) });
  }
  const { box, plot } = plots.get(title);
  const last = values.findLast((value) => value !== null);
  box.setAttribute("aria-label", `${title}: ${last === undefined ? "no value yet" : Number(last).toPrecision(3)} at step ${steps.at(-1)}`);
  plot.setData([steps, values]);
}

async function refresh() {
  const answer = await fetch(holder.dataset.source, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const run = await answer.json();
  for (const [phase, { steps, curves }] of Object.entries(run.phases)) {
    document.getElementById("no-curves").hidden = true;
    for (const [name, values] of Object.entries(curves)) {
      if (!name.endsWith("_seconds")) draw(`${phase} ${name}`, steps, values.map((value) => value ?? null));
    }
  }
  if (run.state === "queued" || run.state === "running") window.setTimeout(refresh, EVERY_MS);
}

if (holder) refresh();
