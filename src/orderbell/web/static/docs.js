// Draws the API's description; everything comes from this site. What Swagger UI owes to those who use a keyboard or
// listen is made up for here: a layout with one main part and headings in order, no link inside of a button, and names
// for what has none. How it looks is in docs.css.
"use strict";
window.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("api");

  // What is drawn again and again, and cannot be told otherwise: where it is, and what it lacks.
  const MENDS = [
    ["textarea", (one) => { one.ariaLabel ??= "Body of the request"; }],
    ["select", (one) => { if (!one.labels.length) one.ariaLabel ??= nameOf(one); }],
    ["input:not([id])", (one) => { if (!one.labels.length) one.ariaLabel ??= nameOf(one); }],
    // what is to be read counts, not another name behind it (WCAG 2.2, 2.5.3)
    [".auth-container input[id], .auth-btn-wrapper button", (one) => { one.removeAttribute("aria-label"); }],
    [".close-modal", (one) => { one.ariaLabel ??= "Close"; }],
    [".modal-ux", (one) => { one.role = "dialog"; one.ariaModal = "true"; one.ariaLabel = "Authorize"; }],
    ["pre.microlight, .model-container", (one) => { one.tabIndex = 0; }], // they scroll, so a keyboard must get there
    [".responses-table[role]", (one) => { one.removeAttribute("role"); }], // a table; as regions all would be called alike
  ];
  const nameOf = (one) => {
    const row = one.closest("tr, .body-param, .response-controls, .auth-container");
    return row?.dataset.paramName ?? row?.querySelector(".parameter__name, h4, label")?.textContent ?? "Value";
  };
  const mend = () => MENDS.forEach(([where, change]) => place.querySelectorAll(where).forEach(change));
  new MutationObserver(mend).observe(place, { childList: true, subtree: true });

  const ours = ({ React }) => {
    const make = React.createElement;
    const Layout = ({ getComponent, specSelectors }) => {
      const part = (name) => make(getComponent(name, true));
      const state = specSelectors.loadingStatus();
      if (state !== "success") {
        return make("p", { role: "status" }, state === "loading" ? place.dataset.loading : place.dataset.failed);
      }
      return make("div", { className: "swagger-ui" },
        part("errors"), part("InfoContainer"),
        make("div", { className: "bar" }, make("h2", null, "Routes"), part("AuthorizeBtnContainer")),
        part("operations"), part("Models"));
    };
    // The whole line is a button, and the address changes with it: the link inside would be a second way to the same.
    const OperationSummaryPath = (Original) => (props) =>
      make(Original, { ...props, operationProps: props.operationProps.set("isDeepLinkingEnabled", false) });
    return { components: { OneMainLayout: Layout }, wrapComponents: { OperationSummaryPath } };
  };

  window.SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    presets: [window.SwaggerUIBundle.presets.apis],
    plugins: [ours],
    layout: "OneMainLayout",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    filter: false,
    persistAuthorization: false, // a key is not left behind in a browser
    syntaxHighlight: { theme: "tomorrow-night" }, // the theme that is legible; no stylesheet reaches its colours
    tryItOutEnabled: true,
    validatorUrl: null,
  });
});
