// What pages of the console do besides htmx: draw charts, fold the menu on narrow screens, copy, pause a live list.
"use strict";
(() => {
  const own = document.currentScript;
  const charts = new Map();

  const loadCharts = () => (window.echarts ? Promise.resolve() : (loadCharts.once ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = own.dataset.charts;
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  })));

  const draw = (root) => {
    const places = [...root.querySelectorAll("[data-chart]")];
    if (!places.length) return;
    loadCharts().then(() => {
      for (const [place, chart] of charts) {
        if (!place.isConnected) { chart.dispose(); charts.delete(place); }
      }
      for (const place of places) {
        if (!place.isConnected || place.dataset.drawn === place.dataset.chart) continue;
        const chart = charts.get(place) ?? window.echarts.init(place);
        const option = JSON.parse(place.dataset.chart);
        // Words in the canvas: elements with style attributes are not let in by the content security policy.
        option.tooltip &&= { renderMode: "richText", ...option.tooltip };
        chart.setOption({ animation: false, ...option }, true);
        charts.set(place, chart);
        place.dataset.drawn = place.dataset.chart;
      }
    });
  };

  const fold = () => {
    const menu = document.querySelector("details.menu");
    if (menu) menu.open = window.matchMedia("(width > 760px)").matches;
  };

  document.addEventListener("DOMContentLoaded", () => { fold(); draw(document); });
  document.addEventListener("htmx:after:swap", () => draw(document));
  window.matchMedia("(width > 760px)").addEventListener("change", fold);
  window.addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
  document.addEventListener("click", (event) => {
    const copied = event.target.closest("[data-copy]");
    if (copied) {
      navigator.clipboard?.writeText(copied.dataset.copy).then(() => { copied.textContent = copied.dataset.copied || "✓"; });
    }
  });
  document.addEventListener("submit", (event) => {
    const asked = event.submitter?.dataset.confirm || event.target.dataset.confirm;
    if (asked && !window.confirm(asked)) event.preventDefault();
  });
})();
