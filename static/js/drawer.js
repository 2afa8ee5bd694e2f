// The guidelines beside the comparison. The drawer stands outside of the desk: text and scroll stay when the next
// comparison comes, and the scroll also after a reload. On a phone it is a sheet over everything.

const drawer = document.getElementById("guidelines-drawer");
const narrow = window.matchMedia("(max-width: 56rem)");

function drawerText() {
  return document.getElementById("drawer-text");
}

function scrollName() {
  return `attune.drawer.${drawer.dataset.project}.${drawerText().dataset.edition}`;
}

function keepScroll() {
  if (drawer.open) sessionStorage.setItem(scrollName(), String(drawerText().scrollTop));
}

function showScroll() {
  drawerText().scrollTop = Number(sessionStorage.getItem(scrollName()) ?? 0);
}

// Asked anew each time it is opened, because a new edition may be out; without a connection the text stays as it was.
async function loadDrawer() {
  try {
    const answer = await fetch(drawer.dataset.src);
    const html = answer.ok ? await answer.text() : "";
    if (html.includes('id="drawer-text"') && html.trim() !== drawer.shown) putText(html.trim());
  } catch {
    if (!drawerText().dataset.edition) drawerText().textContent = "The guidelines could not be fetched. Try again when you are online.";
  }
}

function putText(html) {
  drawer.shown = html;
  const hadFocus = document.activeElement === drawerText();
  drawerText().outerHTML = html;
  drawerText().addEventListener("scroll", keepScroll, { passive: true });
  showScroll();
  reachScrollers();
  if (hadFocus) drawerText().focus();
}

function tellOpeners() {
  for (const opener of document.querySelectorAll("[data-drawer]")) opener.setAttribute("aria-expanded", String(drawer.open));
  document.body.classList.toggle("has-drawer", drawer.open);
}

function openDrawer() {
  if (narrow.matches) drawer.showModal();
  else drawer.show();
  showScroll();
  drawerText().focus();
  tellOpeners();
  loadDrawer();
}

// The event that tells of scrolling comes only with the next frame, when a closed drawer says that it stands at the top.
function closeDrawer() {
  keepScroll();
  drawer.close();
}

drawer.addEventListener("cancel", keepScroll);
drawer.addEventListener("close", () => {
  tellOpeners();
  document.querySelector("[data-drawer]")?.focus();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-drawer]");
  if (opener && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    if (drawer.open) closeDrawer();
    else openDrawer();
  }
  if (event.target.closest("[data-drawer-close]")) closeDrawer();
});

// While the drawer has the focus the desk's keys rest; the drawer's own key and Escape close it.
drawer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const isOurs = !singleKeysAreOff() && (namesByKey[keyOf(event)] ?? []).includes("guidelines");
  if (event.key !== "Escape" && !isOurs) return;
  event.preventDefault();
  closeDrawer();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && drawer.open && !event.defaultPrevented && !event.target.closest("dialog")) closeDrawer();
});

for (const kind of ["htmx:after:swap", "attune:desk"]) document.addEventListener(kind, tellOpeners);
if (document.querySelector("[data-drawer]")) loadDrawer();
