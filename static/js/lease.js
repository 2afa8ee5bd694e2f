// The time for which a comparison is held. Who chooses and writes keeps it, because drafts renew it; who reads for long
// is told in time, and one key holds it for another while. Nothing is ever sent or thrown away by a clock.

const WARN_SHARE = 0.1;
let endsAt = 0;
let heldMs = 0;

function renewLease() {
  endsAt = Date.now() + heldMs;
  tellLease();
}

function tellLease() {
  const note = document.querySelector("[data-lease-note]");
  if (!note) return;
  const left = endsAt - Date.now();
  note.hidden = left > heldMs * WARN_SHARE;
  if (note.hidden) return;
  const minutes = Math.max(1, Math.round(left / 60000));
  const words = left > 0 ? `This comparison is held for you for ${minutes} more minute${minutes === 1 ? "" : "s"}.` : "The time for this comparison is over. You can still send your ranking, or";
  const said = note.querySelector("[data-lease-words]");
  if (said.textContent !== words) said.textContent = words;
}

async function extendLease() {
  const path = `${form().getAttribute("action")}/extend`;
  try {
    const answer = await sendSafely(() => fetch(path, { method: "POST", headers: { "HX-Request": "true", "X-CSRF-Token": token() } }));
    if (answer.ok) renewLease();
    else if (answer.status === 404 || answer.status === 409) window.showNotice?.("Others have it by now. You can still send your ranking: it is kept.");
  } catch {
    window.showNotice?.("The server could not be reached. You can still send your ranking: it is kept.");
  }
}

function startLease() {
  const held = form()?.dataset.heldSeconds;
  heldMs = Number(held ?? 0) * 1000;
  if (held) renewLease();
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-extend]")) extendLease();
});
document.addEventListener("attune:draft-saved", renewLease);
for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, startLease);
window.setInterval(tellLease, 5000);
startLease();
