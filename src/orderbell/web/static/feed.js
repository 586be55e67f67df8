// The live feed of the overview: a button holds it still, what happened meanwhile comes when it goes on.
"use strict";
(() => {
  const LINES_MAX = 100;
  const feed = document.getElementById("feed");
  const button = document.getElementById("pause");
  if (!feed || !button) return;
  const held = [];
  let paused = false;

  const trim = () => {
    feed.querySelector(".quiet-now")?.remove();
    while (feed.children.length > LINES_MAX) feed.lastElementChild.remove();
  };
  const show = (html) => { feed.insertAdjacentHTML("afterbegin", html); trim(); };
  const word = () => {
    button.textContent = (paused ? button.dataset.goOn : button.dataset.pause) + (held.length ? ` (${held.length})` : "");
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    if (!paused) held.splice(0).forEach(show);
    word();
  });
  feed.addEventListener("htmx:sse:before:message", (event) => {
    if (!paused) return;
    event.preventDefault();
    if (held.length < LINES_MAX) held.push(event.detail.message.data);
    word();
  });
  feed.addEventListener("htmx:sse:after:message", trim);
})();
