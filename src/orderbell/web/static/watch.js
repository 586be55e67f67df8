// Pages that hear of changes: an order says that it has changed; the live feed can be held still for a while.
"use strict";
(() => {
  document.addEventListener("changed", () => { document.getElementById("changed")?.removeAttribute("hidden"); });

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
    const html = event.detail.message.data;
    const name = /^<li id="(\w+)"/.exec(html)?.[1];
    if (!html || document.getElementById(name) || held.some((one) => one.includes(name))) {
      event.preventDefault();
      return;
    }
    if (!paused) return;
    event.preventDefault();
    if (held.length < LINES_MAX) held.push(html);
    word();
  });
  feed.addEventListener("htmx:sse:after:message", trim);
})();
