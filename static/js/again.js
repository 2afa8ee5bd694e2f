// Signing in again without leaving the page: what was chosen, typed and not yet sent stays, and goes on under the new session.

const again = document.getElementById("sign-in-again");
let isSignedOut = false;
let isPutOff = false;

function token() {
  return JSON.parse(document.body.getAttribute("hx-headers:inherited") ?? "{}")["X-CSRF-Token"] ?? "";
}

// `sentWith` is the token of the request that was refused: signed in meanwhile, there is nothing to ask.
function askToSignIn(sentWith = token()) {
  if (sentWith !== token()) return;
  isSignedOut = true;
  if (again.open) return;
  if (isPutOff) showNotice("You are signed out. What you did here waits until you", { href: "/sign-in", words: "sign in again" });
  else again.showModal();
}

// What `send` was answered; with a token of an earlier session it is sent once more.
async function sendSafely(send) {
  const sentWith = token();
  const answer = await send();
  if (answer.status === 403 && (await freshToken())) return send();
  if (answer.status === 401 || answer.status === 403) askToSignIn(sentWith);
  return answer;
}

// Who is signed in in this browser now, by any page of theirs; null for nobody.
async function whoIsHere() {
  const page = new DOMParser().parseFromString(await (await fetch("/account/keys")).text(), "text/html");
  const headers = page.body.getAttribute("hx-headers:inherited");
  return headers ? { headers, person: page.body.dataset.person } : null;
}

// Signed in again, the page's token is another; false where it is nobody, or somebody else.
async function freshToken() {
  const here = await whoIsHere();
  if (here?.person !== document.body.dataset.person) return false;
  const wasSignedOut = isSignedOut;
  document.body.setAttribute("hx-headers:inherited", here.headers);
  for (const field of document.querySelectorAll('input[name="csrf_token"]')) field.value = token();
  isPutOff = false;
  isSignedOut = false;
  again.close();
  again.querySelector("form").reset();
  if (!wasSignedOut) return true;
  document.getElementById("notices")?.replaceChildren();
  document.dispatchEvent(new CustomEvent("attune:signed-in"));
  return true;
}

async function signIn(form) {
  const here = JSON.parse((await whoIsHere())?.headers ?? "{}"); // Somebody else's session ends with this.
  const headers = { Accept: "application/json", ...here };
  const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers, redirect: "manual" });
  if (answer.type !== "opaqueredirect") return (await answer.json()).error.message;
  return (await freshToken()) ? "" : "You are signed in, but this page could not be brought up to date. Try once more.";
}

function tellRefusal(sentence) {
  const refused = again.querySelector("[data-again-refused]");
  refused.textContent = sentence;
  refused.hidden = !sentence;
  if (sentence) again.querySelector('[name="password"]').focus();
}

again?.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  try {
    tellRefusal(await signIn(event.target));
  } catch {
    tellRefusal("The server could not be reached. Try again shortly.");
  }
  button.disabled = false;
});

function putOff() {
  isPutOff = true;
  again.close();
  askToSignIn();
}

again?.addEventListener("cancel", (event) => {
  event.preventDefault();
  putOff();
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-again-later]")) putOff();
  if (!isSignedOut || !event.target.closest('.notices a[href="/sign-in"]')) return;
  event.preventDefault();
  document.getElementById("notices").replaceChildren();
  again.showModal();
});

// What htmx was refused, because nobody is signed in or because the page's token is of an earlier session.
document.addEventListener("htmx:after:swap", async () => {
  const refusal = again && document.querySelector("#notices [data-refused]");
  if (refusal?.dataset.refused === "signed out") {
    refusal.remove();
    askToSignIn();
  } else if (refusal?.dataset.refused === "forbidden") {
    const before = token();
    if (!(await freshToken().catch(() => true))) askToSignIn(); // Somebody else is signed in.
    else if (token() !== before) showNotice("You signed in anew meanwhile. Nothing was lost: send it once more.");
  }
});

window.addEventListener("focus", () => {
  if (isSignedOut) freshToken().catch(() => false); // Offline it stays as it is.
});
