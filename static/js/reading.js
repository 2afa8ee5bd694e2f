// Ways to read the responses: as they are meant, letter by letter, or by how they differ from one of them.

let view = "rendered";

function textOf(card) {
  return card.querySelector(".raw")?.textContent ?? "";
}

// The best of those ranked, or the first.
function reference() {
  const all = [...document.querySelectorAll(".response")];
  const placed = all.map((card, place) => [ranks()[place] ?? Infinity, place]);
  return all[placed.sort((a, b) => a[0] - b[0] || a[1] - b[1])[0]?.[1] ?? 0];
}

// What a reader cannot see, as it is to be shown: the name or sign stands before it and is never copied with it.
const UNSEEN = new Map([[" ", "·"], ["\t", "→"], ["\n", "↵"], ["\u00a0", "⍽"], ["\u202f", "⍽"]]);
const UNSEEN_PATTERN = /[ \t\n\u00a0\u00ad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]/u;

function showUnseen(block) {
  if (block.dataset.isShown) return;
  block.dataset.isShown = "yes";
  const parts = document.createDocumentFragment();
  for (const piece of block.textContent.split(new RegExp(`(${UNSEEN_PATTERN.source})`, "u"))) {
    if (!UNSEEN_PATTERN.test(piece)) {
      parts.append(piece);
      continue;
    }
    const sign = UNSEEN.get(piece);
    const mark = Object.assign(document.createElement("span"), { className: sign ? "unseen" : "unseen unseen--named", textContent: piece });
    mark.dataset.sign = sign ?? `U+${piece.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    parts.append(mark);
  }
  block.replaceChildren(parts);
}

function differences(card, from) {
  const holder = document.createElement("div");
  holder.className = "diff";
  holder.dir = "auto";
  for (const part of window.Diff.diffWordsWithSpace(textOf(from), textOf(card))) {
    const piece = document.createElement(part.added ? "ins" : part.removed ? "del" : "span");
    piece.textContent = part.value;
    holder.append(piece);
  }
  return holder;
}

function showView() {
  const from = reference();
  for (const made of document.querySelectorAll(".diff")) made.remove();
  for (const card of document.querySelectorAll(".response, .turn")) {
    if (!card.querySelector(".raw")) continue;
    const isDiff = view === "diff" && from && card !== from && card.matches(".response");
    card.querySelector(".prose").hidden = view === "raw" || isDiff;
    card.querySelector(".raw").hidden = view !== "raw";
    if (view === "raw") showUnseen(card.querySelector(".raw"));
    if (isDiff) card.querySelector(".raw").after(differences(card, from));
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
  const said = document.querySelector("[data-view-state]");
  reachScrollers();
  if (said) said.textContent = view === "diff" ? `Differences from ${from.getAttribute("aria-label")}` : "";
}

function setView(wanted) {
  if (!document.querySelector("[data-view]")) return false;
  view = view === wanted ? "rendered" : wanted;
  showView();
  return true;
}

function addCopyButtons() {
  for (const block of document.querySelectorAll("#desk .prose pre")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
    button.dataset.copy = "";
    const frame = Object.assign(document.createElement("div"), { className: "code" });
    block.tabIndex = 0;
    block.replaceWith(frame);
    frame.append(block, button);
  }
}

async function copy(button) {
  const block = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
  } catch {
    window.getSelection().selectAllChildren(block);
    button.textContent = "Selected";
  }
  window.setTimeout(() => (button.textContent = "Copy"), 2000);
}

document.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-view]");
  if (chosen) setView(chosen.dataset.view);
  const copied = event.target.closest("[data-copy]");
  if (copied) copy(copied);
});

function prepare() {
  addCopyButtons();
  if (document.querySelector("[data-view]")) showView();
}

for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, prepare);
prepare();
