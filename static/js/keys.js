// Keys. Which key means what is said by the server for each person (app/keys.py, where a key is added). A command presses
// the element that carries its name, `data-command="skip"`, or does what a script has said with `onCommand`.

const keysHelp = document.querySelector("[data-keymap]");
const namesByKey = JSON.parse(keysHelp.dataset.keymap);
const actions = new Map();

// `act` gets the number of "rank-3" or "response-3", and says with false that there was nothing to do.
function onCommand(name, act) {
  actions.set(name, act);
}

function canPress(element) {
  return !element.disabled && element.checkVisibility();
}

function press(element) {
  if (!element.matches("details")) {
    element.click();
    return true;
  }
  element.open = !element.open;
  if (element.open) (element.querySelector("textarea, input:not([type=hidden]), .prose") ?? element).focus?.();
  return true;
}

function perform(name) {
  const element = [...document.querySelectorAll(`[data-command="${name}"]`)].find(canPress);
  if (element) return press(element);
  if (document.querySelector("[data-warned] > details:not([open])")) return false;
  const [kind, number] = name.split("-");
  const act = actions.get(name) ?? actions.get(kind);
  return act ? act(Number(number)) !== false : false;
}

// With Alt some keyboards write other characters, so that there the place of the key counts.
function keyOf(event) {
  const plain = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!event.altKey) return plain;
  return `Alt+${/^(Key.|Digit.)$/.test(event.code) ? event.code.at(-1).toLowerCase() : plain}`;
}

onCommand("help", () => keysHelp.showModal()); // Where hints at keys are hidden, so is the button.

function singleKeysAreOff() {
  return document.querySelector("[data-single-keys]")?.dataset.singleKeys === "off";
}

// What the browser does with these keys on such elements comes first.
function belongsTo(target, key) {
  if (target.closest("textarea, input:not([type=radio]):not([type=checkbox]), select, dialog, [contenteditable]")) return true;
  if (key === "Enter") return Boolean(target.closest("button, a, summary")) || (target.form?.id ?? "comparison") !== "comparison";
  const scrolls = target.matches(".prose *, pre") && target.scrollWidth > target.clientWidth;
  return key.startsWith("Arrow") && (target.type === "radio" || scrolls);
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.defaultPrevented) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key === "Enter" && !event.target.closest("dialog") && actions.get("send-from-text")?.(event.target)) event.preventDefault();
    return;
  }
  const key = keyOf(event);
  if (belongsTo(event.target, key) || (key.length === 1 && singleKeysAreOff())) return;
  // A letter that names a response goes to it; with Shift it is always the command.
  const names = (namesByKey[key] ?? []).filter((name) => !(event.shiftKey && name.startsWith("response-")));
  if (names.some(perform)) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open).showModal();
});
