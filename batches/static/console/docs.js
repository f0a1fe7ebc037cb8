// Outside the page, because its content security policy lets no inline script run.
const place = document.getElementById("docs");

SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  validatorUrl: null, // would send the document to a server elsewhere
  requestInterceptor(request) {
    // A session is a login only together with Django's token against forged requests.
    if (new URL(request.url, location.href).origin === location.origin) {
      request.headers["X-CSRFToken"] = place.dataset.csrf;
    }
    return request;
  },
});
