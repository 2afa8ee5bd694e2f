// The rater's desk: what keys do here, the order in words, drafts. It only writes into the form's own inputs and lets htmx send it.

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
  document.dispatchEvent(new CustomEvent("attune:ranks"));
}

function changed() {
  show();
  window.clearTimeout(draftTimer);
  const draftOf = form();
  if (draftOf.dataset.draft) sessionStorage.setItem(nameOf("draft"), String(new URLSearchParams(new FormData(draftOf))));
  draftTimer = window.setTimeout(() => saveDraft(draftOf), DRAFT_DELAY);
}

// A form that was taken ahead may be of an earlier session than the page.
function draftFields(draftOf) {
  const fields = new URLSearchParams(new FormData(draftOf));
  fields.set("csrf_token", token());
  return fields;
}

async function saveDraft(draftOf) {
  draftTimer = 0;
  if (!draftOf.isConnected || !draftOf.dataset.draft) return; // Practice keeps no drafts.
  const [name, kept] = [nameOf("draft", draftOf), sessionStorage.getItem(nameOf("draft", draftOf))];
  const state = document.querySelector("[data-save-state]");
  if (state) state.textContent = "· saving…";
  try {
    const answer = await sendSafely(() => fetch(draftOf.dataset.draft, { method: "POST", body: draftFields(draftOf) }));
    if (answer.ok && sessionStorage.getItem(name) === kept) sessionStorage.removeItem(name);
    if (answer.ok) document.dispatchEvent(new CustomEvent("attune:draft-saved"));
    if (state) state.textContent = answer.ok ? "· draft saved" : "· draft not saved";
  } catch {
    if (state) state.textContent = "· offline, draft not saved";
  }
}

// What the server does not have yet is kept here: a page that loads anew is sooner than the draft that leaves with the old one.
function bringBack() {
  const kept = form() && sessionStorage.getItem(nameOf("draft"));
  if (!kept) return;
  const fields = new URLSearchParams(kept);
  for (const field of form().elements) {
    if (field.matches("[type=radio], [type=checkbox]")) field.checked = fields.getAll(field.name).includes(field.value);
    if (!field.matches("textarea") || !fields.has(field.name)) continue;
    field.value = fields.get(field.name);
    const around = field.closest("details");
    if (around && field.value) around.open = true;
  }
  changed();
}

// Steps of a pair are pressed themselves (data-command); here are the ranks of an order.
onCommand("rank", (rank) => {
  if (!form() || form().hasAttribute("data-pair") || rank > cards().length) return false;
  const card = currentCard() ?? cards()[Math.max(0, ranks().indexOf(null))];
  return giveRank(Number(card.dataset.place), rank);
});
onCommand("tie", () => {
  if (!form()?.hasAttribute("data-ties") || cards().length !== 2) return false;
  return cards().forEach((_, place) => setRank(place, 1));
});
onCommand("response", (number) => {
  if (number > cards().length) return false;
  return goTo(number - 1);
});
for (const [name, step] of [["previous", -1], ["next", 1]]) {
  onCommand(name, () => {
    if (!form()) return false;
    const card = currentCard();
    const from = card ? Number(card.dataset.place) : -1;
    return goTo((from + step + cards().length) % cards().length);
  });
}
for (const [name, step] of [["move_up", -1], ["move_down", 1]]) {
  onCommand(name, () => {
    const card = currentCard();
    return card ? move(Number(card.dataset.place), step) : false;
  });
}
onCommand("send-from-text", (target) => {
  const button = form() && !target.closest(".skip, .report, .ask") && document.querySelector("[data-submit]");
  button?.click();
  return Boolean(button);
});

document.addEventListener("click", (event) => {
  const mover = event.target.closest("[data-move]");
  if (mover) move(Number(mover.closest(".response").dataset.place), Number(mover.dataset.move));
});

// What is opened below the responses must not stay behind the bar.
document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.matches(".skip, .report, .ask")) event.target.scrollIntoView({ block: "nearest" });
}, true);

document.addEventListener("change", (event) => {
  if (event.target.form?.id === "comparison") changed();
});

document.addEventListener("attune:signed-in", () => form() && changed());

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
  writeSeconds();
}, 1000);

function writeSeconds() {
  const seconds = form()?.querySelector('input[name="seconds"]');
  if (!seconds) return;
  seconds.value = (activeMs / 1000).toFixed(1);
  const shown = form().elements.shown_seconds;
  if (shown) shown.value = shownSeconds().toFixed(1);
  sessionStorage.setItem(nameOf("active"), String(activeMs));
}

// By the key with which it will be sent: kept over a reload and a refusal, and begun anew for a correction.
function nameOf(kind, of = form()) {
  return `attune.${kind}.${of?.elements.idempotency_key.value}`;
}

// By the clock, since it was first shown: who reads need not move anything.
function shownSeconds() {
  const since = Number(sessionStorage.getItem(nameOf("shown")) ?? Date.now());
  sessionStorage.setItem(nameOf("shown"), String(since));
  return (Date.now() - since) / 1000;
}

// What was chosen a moment before the page goes away is kept too.
window.addEventListener("pagehide", () => {
  const left = form();
  if (left?.dataset.draft && draftTimer) navigator.sendBeacon(left.dataset.draft, draftFields(left));
});

// A refusal fills the notices and leaves the desk, the focus and the clock as they are.
function begin() {
  const desk = document.getElementById("desk");
  if (desk === begunOn) return;
  const isNext = begunOn !== null;
  begunOn = desk;
  activeMs = Number(sessionStorage.getItem(nameOf("active")) ?? 0);
  writeSeconds();
  bringBack();
  show();
  // The heading is announced; the first response without a rank is marked, because digits go to it.
  if (form() && !form().hasAttribute("data-pair")) mark(cards()[Math.max(0, ranks().indexOf(null))]);
  document.querySelector("[data-focus]")?.focus({ preventScroll: true });
  if (isNext) window.scrollTo(0, 0);
}

for (const kind of ["htmx:before:request", "attune:leaving"]) {
  document.addEventListener(kind, () => {
    window.clearTimeout(draftTimer);
    draftTimer = 0;
  });
}
document.addEventListener("attune:leaving", () => sessionStorage.removeItem(nameOf("draft")));
document.addEventListener("htmx:after:swap", begin);
document.addEventListener("attune:desk", begin);
begin();
