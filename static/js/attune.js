// What every page needs: a refusal's notice goes away by itself once the person has gone on, and a failure of
// the server leaves the page as it is.

document.addEventListener("htmx:before:request", () => {
  const notices = document.getElementById("notices");
  if (notices) notices.replaceChildren();
});

document.addEventListener("htmx:error", () => {
  showNotice("The server could not be reached. What you typed is still here; try again shortly.");
});

// What scrolls by itself, such as a wide table or a long formula, can be reached and scrolled by keyboard.
function reachScrollers() {
  for (const formula of document.querySelectorAll(".prose .math:not(.math--block, .is-wide)")) {
    if (formula.offsetWidth > formula.parentElement.clientWidth) formula.classList.add("is-wide");
  }
  for (const box of document.querySelectorAll(".prose :is(pre, table, .math), .is-together .response__text, .is-together .raw, .is-together .diff")) {
    if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0;
  }
}

for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, reachScrollers);
window.addEventListener("resize", reachScrollers);
document.addEventListener("toggle", reachScrollers, true);
reachScrollers();

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.getElementById("notices")?.replaceChildren();
});

// Who signs out leaves nothing behind but rankings that wait to be sent; each goes with the name of its rater only.
// Once more when the page goes: until the server has answered, it goes on counting and keeping.
function forget() {
  sessionStorage.clear();
  for (const name of Object.keys(localStorage)) if (!name.startsWith("attune.outbox.")) localStorage.removeItem(name);
}

document.addEventListener("submit", (event) => {
  if (event.target.getAttribute("action") !== "/sign-out") return;
  forget();
  window.addEventListener("pagehide", forget);
});

function showNotice(sentence, link = null) {
  const notice = document.createElement("p");
  notice.className = "notice notice--error";
  notice.textContent = link ? `${sentence} ` : sentence;
  if (link) notice.append(Object.assign(document.createElement("a"), { href: link.href, target: "_blank", textContent: link.words }));
  const notices = document.getElementById("notices");
  if (notices && notices.textContent.trim() !== notice.textContent.trim()) notices.replaceChildren(notice); // Said once.
}
