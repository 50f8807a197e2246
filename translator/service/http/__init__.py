"""The ASGI application: routes, exchanges, responders and the WebSocket.

Begin with `app`: every request passes its `Gateway`. `routes` has the endpoints, `exchange` the
HTTP of one request, `responders` how an answer is written. Requests are refused in `app` for their
key, host and origin, in `exchange` for their size, and in `turns.dispatcher` for the rest.
"""
