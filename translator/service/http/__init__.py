"""The ASGI application: routes, exchanges, responders and the WebSocket.

Begin with `app`: every request passes its `Gateway`. `routes` has the endpoints, `exchange` the
HTTP of one request, `responders` how an answer is written.
"""
