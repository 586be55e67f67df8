// Draws the API's description; everything comes from this site.
"use strict";
window.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("api");
  window.SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    presets: [window.SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    filter: false,
    persistAuthorization: false, // a key is not left behind in a browser
    tryItOutEnabled: true,
    validatorUrl: null,
  });
});
