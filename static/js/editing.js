// Editing the best response: the field begins with its text, and what differs is shown beside. What is not edited follows
// the rater's choice of the best.

let edited = { field: null, from: -1, original: "" };

function editField() {
  return document.querySelector("[data-edit]");
}

function isPlaced() {
  return ranks().some((rank) => rank !== null) || Boolean(form()?.querySelector('input[name="choice"]:checked'));
}

function bestPlace() {
  const choice = form().querySelector('input[name="choice"]:checked')?.value ?? "";
  return choice ? Number(choice.startsWith("b") && choice !== "bad") : Number(reference().dataset.place);
}

function original(place) {
  return textOf(cards()[place]).replace(/^\n/, "");
}

function fillEdit() {
  const field = editField();
  if (!field || !field.closest("details").open) return;
  if (edited.field !== field) edited = { field, from: -1, original: "" };
  const place = isPlaced() ? bestPlace() : 0;
  if (field.value === edited.original && place !== edited.from) {
    edited = { field, from: place, original: original(place) };
    field.value = edited.original;
  }
  document.querySelector("[data-edit-label]").textContent = `Response ${LETTERS[place]}, as it should be`;
  const pieces = window.Diff.diffWordsWithSpace(original(place), field.value).map((part) => {
    const piece = document.createElement(part.added ? "ins" : part.removed ? "del" : "span");
    piece.textContent = part.value;
    return piece;
  });
  const isChanged = field.value !== original(place);
  document.querySelector("[data-edit-diff]").replaceChildren(...(isChanged ? pieces : ["Nothing yet."]));
}

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("details.edit")) fillEdit();
}, true);
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-edit]")) return;
  fillEdit();
  changed();
});
// A response as it was is no edit, whichever way the form goes: sent, kept as a draft, or waiting to be sent.
document.addEventListener("formdata", (event) => {
  if (event.target.id !== "comparison" || !editField()) return;
  const text = editField().value.trim();
  if (cards().some((_, place) => original(place).trim() === text)) event.formData.set("edit", "");
});
document.addEventListener("attune:ranks", fillEdit);
for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, fillEdit);
fillEdit();
