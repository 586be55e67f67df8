/* The customer's page updates itself: told that something changed, it fetches the part that may have. */
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const version = () => live.querySelector("[data-version]")?.dataset.version ?? "";
  const refresh = async () => {
    const answer = await fetch(live.dataset.part, { headers: { accept: "text/html" } }).catch(() => null);
    if (!answer?.ok) return;
    const open = live.querySelector("details")?.open;
    live.innerHTML = await answer.text();
    if (open && live.querySelector("details")) live.querySelector("details").open = true;
    live.firstElementChild?.classList.add("fresh");
  };
  let stream;
  const listen = () => {
    stream?.close();
    stream = new EventSource(`${live.dataset.live}?v=${version()}`);
    stream.addEventListener("changed", refresh);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stream?.close(); stream = undefined; } else { refresh().then(listen); }
  });
  setInterval(() => { if (stream?.readyState === 2 && !document.hidden) refresh(); }, 60000);
  if (!document.hidden) listen();
})();
