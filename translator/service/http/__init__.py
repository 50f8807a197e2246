"""The ASGI application: routes, exchanges, WebSocket."""
