// The order as a strip of letters, which may be dragged: an option beside the digits, the arrows of each response and the
// keys, which do the same. It only writes into the form's own inputs.

let isDragging = false;

function strip() {
  return document.querySelector("[data-strip]");
}

function chip(place) {
  const letter = document.createElement("span");
  letter.className = "strip__letter";
  letter.dataset.letter = place;
  letter.textContent = LETTERS[place];
  return letter;
}

function drawStrip() {
  if (!strip() || isDragging) return;
  const given = ranks();
  const placed = given.map((rank, place) => [rank, place]).filter(([rank]) => rank !== null).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const ranked = placed.map(([rank, place], index) => {
    const letter = chip(place);
    letter.dataset.rank = rank;
    if (index > 0) letter.dataset.sign = placed[index - 1][0] === rank ? "=" : ">";
    return letter;
  });
  const left = given.flatMap((rank, place) => (rank === null ? [chip(place)] : []));
  strip().querySelector("[data-strip-ranked]").replaceChildren(...ranked);
  strip().querySelector("[data-strip-left]").replaceChildren(...left);
}

// What was dropped has a rank of its own, or that of a tie it was dropped into; the others keep who they tie with.
function writeRanks(dropped) {
  const order = [...strip().querySelectorAll("[data-strip-ranked] [data-letter]")];
  const at = order.indexOf(dropped);
  const [before, after] = [order[at - 1]?.dataset.rank, order[at + 1]?.dataset.rank];
  dropped.dataset.rank = before !== undefined && before === after ? before : "dropped";
  let [rank, last] = [0, null];
  const wanted = new Map();
  for (const letter of order) {
    if (letter.dataset.rank !== last) rank += 1;
    last = letter.dataset.rank;
    wanted.set(Number(letter.dataset.letter), rank);
  }
  for (const card of cards()) {
    const place = Number(card.dataset.place);
    for (const input of card.querySelectorAll(`input[name="rank-${place}"]`)) input.checked = Number(input.value) === wanted.get(place);
  }
  changed();
}

function beginStrip() {
  const lists = strip()?.querySelectorAll("[data-strip-ranked], [data-strip-left]") ?? [];
  for (const list of lists) {
    if (window.Sortable.get(list)) continue;
    window.Sortable.create(list, {
      group: "strip",
      animation: window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 120,
      forceFallback: true,
      onStart: () => (isDragging = true),
      onEnd: ({ item }) => {
        isDragging = false;
        writeRanks(item);
      },
    });
  }
  if (strip()) strip().hidden = false;
  drawStrip();
}

document.addEventListener("attune:ranks", drawStrip);
for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, beginStrip);
beginStrip();
