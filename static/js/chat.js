// Chat: shows replies while they are written, then asks the server for the page as it stands. The stream says where and
// what, never who.

const LOST = "The connection was lost. What is written is kept; reload the page to see it.";
let stream = null;

function tile(place) {
  return document.querySelector(`[data-tile="${place}"]`);
}

function clearTiles() {
  for (const text of document.querySelectorAll("[data-tile] [data-text]")) text.textContent = "";
}

function closeStream() {
  stream?.close();
  stream = null;
}

function openStream() {
  const place = document.querySelector("[data-stream]");
  if (!place) return;
  stream = new EventSource(place.dataset.stream);
  stream.addEventListener("open", clearTiles); // After a break the server begins again.
  stream.addEventListener("add", (event) => {
    const { place: number, text } = JSON.parse(event.data);
    tile(number)?.querySelector("[data-text]").append(text);
  });
  stream.addEventListener("broke", (event) => {
    const broken = tile(JSON.parse(event.data).place);
    broken?.removeAttribute("aria-busy");
    broken?.querySelector("[data-broke]").removeAttribute("hidden");
  });
  stream.addEventListener("end", () => {
    closeStream();
    window.htmx.ajax("GET", place.dataset.page, { target: "#desk", swap: "outerHTML" });
  });
  stream.addEventListener("error", () => {
    if (stream?.readyState === EventSource.CLOSED) showNotice(LOST);
  });
}

function beginChat() {
  closeStream();
  openStream();
  document.querySelector(".chat [data-newest]")?.scrollIntoView({ block: "start" });
  document.querySelector("#composer [data-composer]")?.focus({ preventScroll: false });
}

onCommand("send-from-text", (target) => {
  const form = target.closest("#composer, #report") ?? document.getElementById("comparison");
  form?.requestSubmit();
  return Boolean(form);
});

document.addEventListener("htmx:after:swap", beginChat);
window.addEventListener("pagehide", closeStream);
beginChat();
