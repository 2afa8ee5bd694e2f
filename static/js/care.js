// Active time today, which may be hidden, a reminder of a break, a word to who was quick, and content that is shown only
// when asked for. What rating.js counts as active counts here.

const BREAK_MS = 5 * 60000; // Away for as long is a break.
let stretchFrom = null;

function timer() {
  return document.querySelector("[data-timer]");
}

function inHours(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function isTimerHidden() {
  return localStorage.getItem("attune.timer") === "hidden";
}

function activeToday() {
  return Number(timer().dataset.seconds) + activeMs / 1000;
}

function showTime() {
  const button = timer();
  if (!button) return;
  button.hidden = false;
  button.setAttribute("aria-pressed", String(!isTimerHidden()));
  const words = isTimerHidden() ? "Show time" : `${inHours(activeToday())} active`;
  const shown = button.querySelector("[data-timer-words]");
  if (shown.textContent !== words) shown.textContent = words;
  remind();
}

// The stretch since the last break is kept over pages and reloads, with when somebody was last there.
function remind() {
  const limit = Number(timer().dataset.breakMinutes) * 60;
  if (!limit) return;
  const kept = JSON.parse(localStorage.getItem("attune.stretch") ?? "null");
  if (stretchFrom === null) stretchFrom = kept?.from ?? activeToday();
  if (Date.now() - (kept?.at ?? 0) > BREAK_MS || stretchFrom > activeToday()) stretchFrom = activeToday();
  const isThere = document.visibilityState === "visible" && Date.now() - lastInput < BREAK_MS;
  localStorage.setItem("attune.stretch", JSON.stringify({ from: stretchFrom, at: isThere ? Date.now() : (kept?.at ?? 0) }));
  document.querySelector("[data-break]").hidden = activeToday() - stretchFrom < limit;
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-timer]")) localStorage.setItem("attune.timer", isTimerHidden() ? "shown" : "hidden");
  else if (event.target.closest("[data-break-over]")) stretchFrom = activeToday();
  else return;
  showTime();
});

for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, showTime);
window.setInterval(showTime, 1000);
showTime();

// Sooner than anybody reads: said above the next comparison. Nothing is refused, and the server marks it by its own count.
let quickOn = null;

function notePace(event) {
  const sent = event.target === document || event.target.id === "comparison" ? form() : null;
  const isQuick = sent && !sent.hasAttribute("data-correction") && shownSeconds() < Number(sent.dataset.leastSeconds);
  quickOn = isQuick ? document.getElementById("desk") : null;
}

// The place stands outside of the desk, so that what is put there is also read aloud.
let nudgedFor = document.getElementById("desk");

function nudge() {
  const place = document.querySelector("[data-nudge]");
  const desk = document.getElementById("desk");
  if (!place || desk === nudgedFor) return;
  nudgedFor = desk;
  place.textContent = quickOn ? "That was quicker than all of it can be read. Take the time that you need; Undo brings it back." : "";
  quickOn = null;
}

for (const kind of ["htmx:before:request", "attune:leaving"]) document.addEventListener(kind, notePace);
for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, nudge);

// What was shown once stays shown after a reload. Until then, keys reach nothing behind the warning.
function closedWarning() {
  return [...document.querySelectorAll("[data-warned] > details")].find((details) => !details.open);
}

function showWarned() {
  const closed = closedWarning();
  if (closed && sessionStorage.getItem("attune.warned") === closed.parentElement.dataset.warned) closed.open = true;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-blur]");
  if (button) button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
});

document.addEventListener("toggle", (event) => {
  if (!event.target.matches?.("[data-warned] > details") || !event.target.open) return;
  sessionStorage.setItem("attune.warned", event.target.parentElement.dataset.warned);
  event.target.querySelector("[data-focus]")?.focus({ preventScroll: true });
}, true);

document.addEventListener("htmx:after:swap", showWarned);
document.addEventListener("attune:desk", showWarned);
showWarned();
