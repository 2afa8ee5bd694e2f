// The rater's desk: keys, the order in words, drafts. It only writes into the form's own inputs and lets htmx send it.

const LETTERS = "ABCDEFGHI";
const DRAFT_DELAY = 600;
const IDLE_MS = 60000;
let draftTimer = 0;
let activeMs = 0;
let lastInput = Date.now();
let begunOn = null;

function form() {
  return document.getElementById("comparison");
}

function cards() {
  return [...document.querySelectorAll(".response")];
}

function currentCard() {
  return document.activeElement?.closest(".response") ?? document.querySelector(".response.is-current");
}

function mark(card) {
  for (const other of cards()) other.classList.toggle("is-current", other === card);
}

function goTo(place) {
  const card = cards()[place];
  if (!card) return;
  mark(card);
  card.focus();
  card.scrollIntoView({ block: "nearest" });
}

function ranks() {
  return cards().map((card) => {
    const checked = card.querySelector(`input[name="rank-${card.dataset.place}"]:checked`);
    return checked ? Number(checked.value) : null;
  });
}

function setRank(place, rank) {
  const input = form()?.querySelector(`input[name="rank-${place}"][value="${rank}"]`);
  if (!input) return;
  input.checked = true;
  changed();
}

// With ties switched off, a rank that is taken is exchanged.
function giveRank(place, rank) {
  if (!form().hasAttribute("data-ties")) {
    const before = ranks();
    const holder = before.indexOf(rank);
    if (holder >= 0 && holder !== place && before[place]) setRank(holder, before[place]);
  }
  setRank(place, rank);
  const next = ranks().findIndex((value) => value === null);
  if (next >= 0) goTo(next);
}

function move(place, by) {
  const now = ranks()[place] ?? (by > 0 ? 0 : cards().length + 1);
  const wanted = Math.min(Math.max(now + by, 1), cards().length);
  const holder = ranks().indexOf(wanted);
  if (holder >= 0 && holder !== place && ranks()[place]) setRank(holder, now);
  setRank(place, wanted);
}

function inWords() {
  const choice = form().querySelector('input[name="choice"]:checked');
  if (choice) return choice.nextElementSibling.firstChild.textContent.trim();
  const groups = new Map();
  ranks().forEach((rank, place) => {
    if (rank !== null) groups.set(rank, [...(groups.get(rank) ?? []), LETTERS[place]]);
  });
  const order = [...groups.keys()].sort((a, b) => a - b).map((rank) => groups.get(rank).join(" = "));
  const missing = ranks().filter((rank) => rank === null).length;
  if (order.length === 0) return "Nothing is ranked yet.";
  return order.join(" > ") + (missing ? `, ${missing} to go` : "");
}

function show() {
  if (!form()) return;
  document.querySelector("[data-order]").textContent = inWords();
  ranks().forEach((rank, place) => {
    const output = form().querySelector(`[data-rank-of="${place}"]`);
    if (output) output.textContent = rank === null ? "" : `#${rank}`;
  });
}

function changed() {
  show();
  window.clearTimeout(draftTimer);
  const draftOf = form();
  draftTimer = window.setTimeout(() => saveDraft(draftOf), DRAFT_DELAY);
}

async function saveDraft(draftOf) {
  draftTimer = 0;
  if (!draftOf.isConnected) return;
  const state = document.querySelector("[data-save-state]");
  if (state) state.textContent = "· saving…";
  try {
    const answer = await fetch(draftOf.dataset.draft, { method: "POST", body: new URLSearchParams(new FormData(draftOf)) });
    if (state) state.textContent = answer.ok ? "· draft saved" : "· draft not saved";
  } catch {
    if (state) state.textContent = "· offline, draft not saved";
  }
}

function digit(key) {
  const pair = form().querySelector(`input[name="choice"][data-digit="${key.toLowerCase()}"]`);
  if (form().hasAttribute("data-pair")) {
    if (!pair) return false;
    pair.checked = true;
    changed();
    return true;
  }
  if (key === "0" && cards().length === 2 && form().hasAttribute("data-ties")) {
    cards().forEach((_, place) => setRank(place, 1));
    return true;
  }
  const card = currentCard() ?? cards()[Math.max(0, ranks().indexOf(null))];
  if (!card || Number(key) < 1 || Number(key) > cards().length) return false;
  giveRank(Number(card.dataset.place), Number(key));
  return true;
}

function toggle(selector) {
  const details = document.querySelector(selector);
  if (!details) return false;
  details.open = !details.open;
  if (details.open) (details.querySelector("textarea, input, .prose") ?? details).focus?.();
  return true;
}

function click(selector) {
  const button = document.querySelector(selector);
  button?.click();
  return Boolean(button);
}

// A letter that names a response goes to it; with Shift it is always the command (G: guidelines).
function single(key, shifted) {
  if (key === "z" || key === "Backspace") return click('[data-key="z"]');
  if (key === "?") return click("[data-open]");
  if (!form()) return key === "Enter" && click('[data-key="Enter"]');
  const place = LETTERS.toLowerCase().indexOf(key);
  if (!shifted && key.length === 1 && place >= 0 && place < cards().length) {
    goTo(place);
    return true;
  }
  if (key === "Enter") return click("[data-submit]");
  if (/^[0-9]$/.test(key)) return digit(key);
  if (key === "x" && form().hasAttribute("data-pair")) return digit("x");
  if (key === "x") return click('input[name="all_bad"]');
  if (key === "s") return toggle(".skip");
  if (key === "l") return click('[data-key="l"]');
  if (key === "n") return toggle(".note");
  if (key === "g") return toggle("[data-guideline]");
  return false;
}

function keysAreOff() {
  return localStorage.getItem("attune.keys") === "off";
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key === "Enter" && form() && !event.target.closest(".skip, dialog")) click("[data-submit]");
    return;
  }
  const inText = event.target.closest("textarea, input:not([type=radio]):not([type=checkbox]), select, dialog");
  if (inText) return;
  const card = currentCard();
  if (event.altKey) {
    if (card && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      move(Number(card.dataset.place), event.key === "ArrowUp" ? -1 : 1);
    }
    return;
  }
  if (event.target.closest("button, a, summary") && event.key === "Enter") return;
  if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && event.target.type !== "radio") {
    const step = event.key === "ArrowRight" ? 1 : -1;
    const from = card ? Number(card.dataset.place) : -1;
    if (form()) goTo((from + step + cards().length) % cards().length);
    return;
  }
  if (keysAreOff() && event.key !== "Enter") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (single(key, event.shiftKey)) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open).showModal();
  const mover = event.target.closest("[data-move]");
  if (mover) move(Number(mover.closest(".response").dataset.place), Number(mover.dataset.move));
});

// What is opened below the responses must not stay behind the bar.
document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.matches(".guideline, .skip")) event.target.scrollIntoView({ block: "nearest" });
}, true);

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-keys-off]")) localStorage.setItem("attune.keys", event.target.checked ? "off" : "on");
  if (event.target.form?.id === "comparison") changed();
});

document.addEventListener("focusin", (event) => {
  const card = event.target.closest(".response");
  if (card) mark(card);
});

document.addEventListener("input", (event) => {
  if (event.target.matches('textarea[name="note"][form="comparison"]')) changed();
});

// Active time: visible, and something was typed or moved within the last minute.
for (const kind of ["keydown", "pointermove", "scroll", "focus"]) {
  document.addEventListener(kind, () => (lastInput = Date.now()), { passive: true, capture: true });
}
window.setInterval(() => {
  if (document.visibilityState === "visible" && Date.now() - lastInput < IDLE_MS) activeMs += 1000;
  const seconds = form()?.querySelector('input[name="seconds"]');
  if (seconds) seconds.value = (activeMs / 1000).toFixed(1);
}, 1000);

// What was chosen a moment before the page goes away is kept too.
window.addEventListener("pagehide", () => {
  const left = form();
  if (left && draftTimer) navigator.sendBeacon(left.dataset.draft, new URLSearchParams(new FormData(left)));
});

// A refusal fills the notices and leaves the desk, the focus and the clock as they are.
function begin() {
  const desk = document.getElementById("desk");
  if (desk === begunOn) return;
  const isNext = begunOn !== null;
  begunOn = desk;
  activeMs = 0;
  show();
  // The heading is announced; the first response without a rank is marked, because digits go to it.
  if (form() && !form().hasAttribute("data-pair")) mark(cards()[Math.max(0, ranks().indexOf(null))]);
  document.querySelector("[data-focus]")?.focus({ preventScroll: true });
  if (isNext) window.scrollTo(0, 0);
  const off = document.querySelector("[data-keys-off]");
  if (off) off.checked = keysAreOff();
}

document.addEventListener("htmx:before:request", () => {
  window.clearTimeout(draftTimer);
  draftTimer = 0;
});
document.addEventListener("htmx:after:swap", begin);
begin();
