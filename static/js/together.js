// Responses scrolled together: each keeps to a box, and all show the same share of their texts. The keys scroll all of
// them, or the page where they stand in it at full length.

const STEP = 0.4;
let leader = null;

function isTogether() {
  return localStorage.getItem("attune.together") === "yes";
}

function texts() {
  return [...document.querySelectorAll(".cards :is(.response__text, .raw, .diff)")].filter((text) => text.checkVisibility());
}

function showTogether() {
  const button = document.querySelector("[data-together]");
  if (!button) return;
  button.setAttribute("aria-pressed", String(isTogether()));
  document.querySelector(".cards").classList.toggle("is-together", isTogether());
  for (const text of texts()) text.scrollTop = 0;
  reachScrollers();
}

function follow(moved) {
  const share = moved.scrollTop / Math.max(1, moved.scrollHeight - moved.clientHeight);
  for (const text of texts()) {
    if (text !== moved) text.scrollTop = Math.round(share * (text.scrollHeight - text.clientHeight));
  }
}

// The one that is being read leads: what the others scroll because of it is no wish of theirs.
for (const kind of ["pointerover", "focusin", "wheel", "touchstart"]) {
  document.addEventListener(kind, (event) => (leader = event.target.closest?.(".cards :is(.response__text, .raw, .diff)") ?? leader), { passive: true });
}
document.addEventListener("scroll", (event) => {
  if (isTogether() && event.target === leader) follow(leader);
}, { passive: true, capture: true });

function scrollAll(direction) {
  if (texts().length === 0) return false;
  if (!isTogether()) return window.scrollBy(0, direction * window.innerHeight * STEP);
  const longest = texts().sort((one, other) => other.scrollHeight - one.scrollHeight)[0];
  leader = longest;
  return longest.scrollBy(0, direction * longest.clientHeight * STEP);
}

onCommand("scroll_down", () => scrollAll(1));
onCommand("scroll_up", () => scrollAll(-1));

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-together]")) return;
  localStorage.setItem("attune.together", isTogether() ? "no" : "yes");
  showTogether();
});
for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, showTogether);
showTogether();
