// Rankings on their way. The comparison that follows is taken ahead and shown at once; what was sent waits here, in
// the browser's storage, until the server has it. Each goes with the key of its form, so sending twice is harmless.

const PATIENCE_MS = [2000, 5000, 15000, 30000];
let ahead = null;
let previous = null;
let failures = 0;
let isBarred = false;
let retryTimer = 0;

function deskNow() {
  return document.getElementById("desk");
}

function ratePath() {
  return `/projects/${deskNow().dataset.project}/rate`;
}

function boxName() {
  return `attune.outbox.${deskNow().dataset.person}.${deskNow().dataset.project}`;
}

function waiting() {
  return JSON.parse(localStorage.getItem(boxName()) ?? "[]");
}

function keep(entries) {
  if (entries.length) localStorage.setItem(boxName(), JSON.stringify(entries));
  else localStorage.removeItem(boxName());
  tellState(entries.length);
}

function tellState(count, words = "") {
  const state = document.querySelector("[data-save-state]");
  if (!state) return;
  const many = count === 1 ? "1 ranking waits here and is sent later" : `${count} rankings wait here and are sent later`;
  state.textContent = words || (count === 0 ? "" : failures ? `· ${isSignedOut ? "signed out" : isBarred ? "not allowed" : "offline"}: ${many}` : "· saving…");
}

function ask(path, body, headers) {
  return fetch(path, { method: "POST", body, headers: { "X-CSRF-Token": token(), ...headers } });
}

// Nothing is missing that the server would ask for; whatever else it refuses brings the comparison back.
function isWhole(sent) {
  if (sent.hasAttribute("data-pair")) return Boolean(sent.querySelector('input[name="choice"]:checked'));
  const ranked = new Set([...sent.querySelectorAll('input[name^="rank-"]:checked')].map((input) => input.name));
  return ranked.size === Number(sent.dataset.k);
}

async function takeAhead() {
  const shown = document.getElementById("comparison");
  if (!shown || shown.hasAttribute("data-correction") || ahead) return;
  try {
    const answer = await ask(`${ratePath()}/ahead`, null, { "HX-Request": "true" });
    keepAhead(answer.status === 200 ? await answer.text() : "");
  } catch {
    // Without it the rater waits for the next one, as ever.
  }
}

// Not what is shown already: the one that was sent may not have arrived yet.
function keepAhead(html) {
  const shown = document.getElementById("comparison");
  if (!html.includes('id="comparison"') || !shown || shown.hasAttribute("data-correction") || ahead) return;
  if (!html.includes(`action="${shown.getAttribute("action")}"`)) ahead = html;
}

function replaceDesk(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  deskNow().replaceWith(holder.content);
  window.htmx.process(deskNow());
  document.dispatchEvent(new CustomEvent("attune:desk"));
}

document.addEventListener("submit", (event) => {
  const sent = event.target;
  const canGoOn = ahead || !navigator.onLine || waiting().length;
  if (sent.id !== "comparison" || sent.hasAttribute("data-correction") || !canGoOn || !isWhole(sent)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  performance.mark("attune:sent");
  document.dispatchEvent(new CustomEvent("attune:leaving"));
  const fields = new URLSearchParams(new FormData(sent));
  fields.delete("csrf_token");
  if (ahead) fields.set("shown", "next");
  previous = { action: sent.getAttribute("action"), desk: deskNow() };
  const entries = [...waiting(), { action: previous.action, body: fields.toString() }];
  localStorage.setItem(boxName(), JSON.stringify(entries));
  document.getElementById("notices")?.replaceChildren();
  replaceDesk(ahead ?? document.getElementById("desk-on-its-way").innerHTML);
  ahead = null;
  requestAnimationFrame(() => window.setTimeout(() => performance.mark("attune:painted")));  // Once the frame is out.
  tellState(entries.length);
  flush();
}, true);

// What is to be undone must have arrived.
document.addEventListener("submit", (event) => {
  if (!event.target.action?.endsWith("/rate-undo") || waiting().length === 0) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  flush().then(() => waiting().length === 0 && event.target.requestSubmit());
}, true);

// One tab sends at a time.
function flush() {
  window.clearTimeout(retryTimer);
  return navigator.locks.request("attune.outbox", sendAll);
}

async function sendAll() {
  let told = "";
  for (let entry = waiting()[0]; entry; entry = waiting()[0]) {
    const outcome = await sendOne(entry);
    if (outcome === "later") return later();
    failures = 0;
    told = outcome;
    keep(waiting().slice(1));
  }
  if (!told) return;
  tellState(0, `· ${told}`);
  const shown = document.getElementById("comparison");
  if (!shown && document.querySelector("[data-on-its-way]")) window.htmx.ajax("POST", `${ratePath()}/next`, { target: "#desk", swap: "outerHTML" });
  else takeAhead();
}

// What the server said of one ranking, or "later" when it has to be asked again.
async function sendOne(entry, isSecond = false) {
  const sentWith = token();
  isBarred = false; // Until it is said again.
  let answer;
  let isStale = false;
  try {
    answer = await ask(entry.action, new URLSearchParams(entry.body), { Accept: "application/json" });
    isStale = answer.status === 403 && !isSecond && (await freshToken());
  } catch {
    return "later";
  }
  if (isStale) return sendOne(entry, true);
  if (answer.ok) {
    keepAhead(await answer.text()); // The answer brings what will follow the comparison that is shown.
    return answer.headers.get("X-Attune-Notice") ?? "saved";
  }
  if (answer.status === 401 || answer.status === 403) {
    if (isSecond) window.showNotice?.((await answer.json()).error.message); // It is this person, who may not any more.
    else askToSignIn(sentWith);
    isBarred = isSecond;
    return "later";
  }
  if (answer.status >= 500 || answer.status === 429) return "later";
  refuse(entry, (await answer.json()).error.message);
  return "not stored";
}

// The comparison comes back with what was chosen, where it was the last one sent.
function refuse(entry, sentence) {
  if (previous?.action === entry.action) {
    ahead = document.getElementById("comparison") ? deskNow().outerHTML : ahead;
    deskNow().replaceWith(previous.desk);
    previous = null;
    document.dispatchEvent(new CustomEvent("attune:desk"));
  }
  window.showNotice?.(sentence);
}

function later() {
  failures += 1;
  tellState(waiting().length);
  retryTimer = window.setTimeout(flush, PATIENCE_MS[Math.min(failures, PATIENCE_MS.length) - 1]);
}

for (const [target, kind] of [[window, "online"], [window, "focus"], [document, "attune:signed-in"]]) {
  target.addEventListener(kind, () => (waiting().length ? flush() : takeAhead()));
}

window.addEventListener("beforeunload", (event) => {
  if (waiting().length && failures) event.preventDefault();
});

// A desk that the server sent is the one that was taken ahead, or another: what was kept is of no use.
document.addEventListener("htmx:after:swap", () => {
  ahead = null;
  window.setTimeout(takeAhead, 0);
});
document.addEventListener("attune:desk", () => window.setTimeout(() => waiting().length || takeAhead(), 0));

// What waits since an earlier visit is sent first; if it was of the comparison shown, the page is asked anew.
async function start() {
  const actions = waiting().map((entry) => entry.action);
  if (actions.length) {
    tellState(actions.length);
    await flush();
    const shown = document.getElementById("comparison")?.getAttribute("action");
    if (waiting().length === 0 && actions.includes(shown)) window.location.reload();
  } else {
    takeAhead();
  }
}

start();
