"""The HTTP API and the page, as one ASGI application, without Ray."""
