"""The protocols of client connections: ours, or uvicorn's own where ours do not fit its version."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from translator.service.base.internals import warn_once
from translator.service.config.settings import Server

from . import http1
from .connections import Connections, connections_of

_PLAIN_HTTP = (
    "its own HTTP protocol is used: no limit on connections, nor on the size of headers and the "
    "time they take, requests that offer HTTP/2 (Java) are not answered, pipelining and large "
    "bodies may hide that a client disconnects, and each chunk costs more CPU"
)
_PLAIN_WEBSOCKET = (
    "its own WebSocket protocol is used: clients that close their side without reading stay "
    "longer, messages may take any time to arrive, and each one that is sent costs more CPU"
)


def protocols(server: Server) -> dict[str, Any]:
    """The options of `uvicorn.Config` that say which protocols are spoken."""
    connections = connections_of(server)
    http: object = partial(
        http1.Http1, max_header_bytes=server.max_header_bytes, connections=connections
    )
    if http1.MISSING:
        warn_once("uvicorn", http1.MISSING, _PLAIN_HTTP)
        http = "httptools"
    common = {"timeout_keep_alive": server.keep_alive_timeout_s}
    if not server.websocket:
        return {"http": http, "ws": "none", **common}
    return {
        "http": http,
        "ws": partial(_websocket, connections),
        "ws_max_size": server.max_body_bytes,
        # it would cost CPU per token and memory per connection, and small messages grow by it
        "ws_per_message_deflate": False,
        **common,
    }


def _websocket(
    connections: Connections,
    **options: Any,  # noqa: ANN401 - what uvicorn gives each protocol
) -> asyncio.Protocol:
    """The protocol of one WebSocket.

    Imported after the first answer (`warm_up`), or for the first WebSocket: with websockets, that
    takes as long as httpx.
    """
    from . import websocket_protocol

    if websocket_protocol.MISSING:
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

        warn_once("uvicorn", websocket_protocol.MISSING, _PLAIN_WEBSOCKET)
        return WebSocketsSansIOProtocol(**options)
    return websocket_protocol.WebSocketProtocol(**options, connections=connections)
