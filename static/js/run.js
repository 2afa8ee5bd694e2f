// Live curves of a run: one small uPlot per metric, refreshed while the run is active. The page's own list of
// metrics gives their titles, what they mean and the order in which they matter.

const holder = document.getElementById("curves");
const phases = JSON.parse(holder.dataset.phases);
const metrics = [...document.querySelectorAll("[data-metric]")].map((entry) => ({
  name: entry.dataset.metric,
  title: entry.dataset.title,
  words: entry.querySelector("dd").textContent,
}));
const plots = new Map();
const EVERY_MS = 3000;
const HEIGHT = 152;

// A computed colour, because canvases do not know light-dark().
function inked(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  holder.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

// Significant digits, because three decimals make "0.001 0.001 0" of a learning rate.
function short(value) {
  const rounded = Number(value.toPrecision(4));
  const size = Math.abs(rounded);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return rounded.toExponential().replace("e+", "e");
  return String(rounded);
}

function options(width) {
  const axis = { stroke: inked("--ink-soft"), grid: { stroke: inked("--line"), width: 1 }, ticks: { show: false } };
  const values = (_plot, splits) => splits.map((value) => (value === null ? "" : short(value)));
  return {
    width,
    height: HEIGHT,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: { y: false },
    scales: { x: { time: false } },
    axes: [
      { ...axis, size: 26, gap: 4, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000] },
      { ...axis, size: 58, gap: 4, space: 28, values },
    ],
    series: [{}, { stroke: inked("--accent"), width: 2, spanGaps: true }],
  };
}

// By importance, whichever phase came first; what the page does not know comes last.
function rankOf(phase, name) {
  const place = metrics.findIndex((metric) => metric.name === name);
  return (place < 0 ? metrics.length : place) * 10 + Object.keys(phases).indexOf(phase);
}

function insert(box, rank) {
  const later = [...plots.values()].filter((other) => other.rank > rank).sort((one, other) => one.rank - other.rank);
  holder.insertBefore(box, later.length ? later[0].box : null);
}

function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}

function make(key, phase, name) {
  const metric = metrics.find((known) => known.name === name);
  const box = document.createElement("figure");
  box.className = "curve";
  box.setAttribute("role", "img");
  const head = document.createElement("figcaption");
  head.className = "curve__head";
  const title = span("curve__title", "");
  title.append(span("curve__phase", `${phases[phase] ?? phase} · `), metric?.title ?? name.replaceAll("_", " "));
  if (metric) head.title = metric.words;
  const last = span("curve__last muted small number", "");
  head.append(title, last);
  const canvas = document.createElement("div");
  canvas.className = "curve__plot";
  box.append(head, canvas);
  const rank = rankOf(phase, name);
  insert(box, rank);
  const plot = new uPlot(options(canvas.clientWidth), [[], []], canvas);
  new ResizeObserver(() => plot.setSize({ width: canvas.clientWidth, height: HEIGHT })).observe(canvas);
  plots.set(key, { box, plot, last, rank, title: title.textContent });
}

function draw(phase, name, steps, values) {
  const key = `${phase} ${name}`;
  if (!plots.has(key)) make(key, phase, name);
  const { box, plot, last, title } = plots.get(key);
  const newest = values.findLast((value) => value !== null);
  const shown = newest === undefined ? "no value yet" : short(Number(newest.toPrecision(3)));
  last.textContent = shown;
  box.setAttribute("aria-label", `${title}: ${shown} at step ${steps.at(-1)}`);
  plot.setData([steps, values]);
}

async function refresh() {
  const answer = await fetch(holder.dataset.source, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const run = await answer.json();
  for (const [phase, { steps, curves }] of Object.entries(run.phases)) {
    document.getElementById("no-curves").hidden = true;
    for (const [name, values] of Object.entries(curves)) {
      if (!name.endsWith("_seconds")) draw(phase, name, steps, values.map((value) => value ?? null));
    }
  }
  if (run.state === "queued" || run.state === "running") window.setTimeout(refresh, EVERY_MS);
}

refresh();
