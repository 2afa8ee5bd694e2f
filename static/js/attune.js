// What every page needs: a refusal's notice goes away by itself once the person has gone on, and a failure of
// the server leaves the page as it is.

document.addEventListener("htmx:before:request", () => {
  const notices = document.getElementById("notices");
  if (notices) notices.replaceChildren();
});

document.addEventListener("htmx:error", () => {
  showNotice("The server could not be reached. What you typed is still here; try again shortly.");
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.getElementById("notices")?.replaceChildren();
});

function showNotice(sentence) {
  const notice = document.createElement("p");
  notice.className = "notice notice--error";
  notice.textContent = sentence;
  document.getElementById("notices")?.replaceChildren(notice);
}
