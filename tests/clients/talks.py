"""A recording proxy for WebSockets between a client and the translator."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import websockets
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

BOUND_S = 60


@dataclass
class Talk:
    """What passed on one socket."""

    headers: dict[str, str]
    requests: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The ids of the responses that were given."""
        return [one["response"]["id"] for one in self.events if one["type"] == "response.created"]


@contextmanager
def overheard(base_url: str) -> Iterator[tuple[str, list[Talk]]]:
    """A base URL that leads to the given one, and what is said over it."""
    talks: list[Talk] = []
    target = base_url.replace("http://", "ws://")

    def hear(client: ServerConnection) -> None:
        assert client.request is not None
        talk = Talk({name.lower(): value for name, value in client.request.headers.raw_items()})
        talks.append(talk)
        passed_on = {"authorization": talk.headers["authorization"]}
        path = client.request.path.removeprefix("/v1")
        with connect(target + path, additional_headers=passed_on, max_size=None) as service:

            def back() -> None:
                with suppress(websockets.ConnectionClosed):
                    for message in service:
                        talk.events.append(json.loads(message))
                        client.send(message)
                client.close()

            thread = threading.Thread(target=back)
            thread.start()
            with suppress(websockets.ConnectionClosed):
                for message in client:
                    talk.requests.append(json.loads(message))
                    service.send(message)
            service.close()
            thread.join()

    with serve(hear, "127.0.0.1", 0, max_size=None, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1", talks
        finally:
            server.shutdown()
            thread.join(BOUND_S)
