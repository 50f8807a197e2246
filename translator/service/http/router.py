"""The router: an endpoint for each path, and its methods."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.routing import Route as PathRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from translator.service.base.errors import MethodNotAllowed

from .absent_endpoints import unknown_path
from .exchange import Exchange
from .near_paths import plain_path

if TYPE_CHECKING:
    from .page import Page

_WITH_IDS = ("/models/", "/responses/", "/conversations/", "/usage/")
"""Paths that go on with an id."""

Methods: TypeAlias = Mapping[str, Callable[[Exchange], Coroutine[Any, Any, None]]]


_CONVERTER = re.compile(r":[a-z]+}")
"""Of a parameter of a path, in the terms of Starlette: `{id:path}`."""


class Endpoint:
    """The methods of one path; any other is a 405 that lists them."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self.route = ""
        """Its path, with `{id}` for what clients choose; the first one where it has several."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """The response, to be awaited: no coroutine is held around it. Raises MethodNotAllowed."""
        exchange: Exchange = scope["exchange"]
        exchange.record.route = self.route
        method = "GET" if exchange.method == "HEAD" else exchange.method
        if method not in self._methods:
            raise MethodNotAllowed(exchange.method, exchange.path, list(self._methods))
        return self._methods[method](exchange)


class PageEndpoint(Endpoint):
    """The paths of the page, which has nothing but `GET`: other methods find no such path."""

    def __init__(self, load: Callable[[], Page]) -> None:
        """`load` makes the page, or returns the one that it made before."""
        super().__init__({})
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        if exchange.method not in ("GET", "HEAD"):
            raise unknown_path(exchange.method, exchange.path)
        await self._load().respond(exchange)


class PathRouter(Router):
    """A router that looks a path up before it tries one pattern after the other."""

    def __init__(
        self,
        paths: Mapping[str, Endpoint],
        *,
        default: ASGIApp,
        lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
    ) -> None:
        """The paths may have parameters, in the terms of Starlette."""
        for path, endpoint in paths.items():
            endpoint.route = endpoint.route or _CONVERTER.sub("}", path)
        routes = [PathRoute(path, endpoint) for path, endpoint in paths.items()]
        super().__init__(routes, redirect_slashes=False, default=default, lifespan=lifespan)
        self._endpoints = {path: one for path, one in paths.items() if "{" not in path}

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        endpoint = self._endpoints.get(scope.get("path", ""))
        if endpoint is None and "exchange" in scope and not scope.get("root_path"):
            endpoint = self._near(scope)
        if endpoint is None or scope.get("root_path"):
            return super().__call__(scope, receive, send)
        return endpoint(scope, receive, send)

    def _near(self, scope: Scope) -> Endpoint | None:
        """The endpoint of the API that a path means; one with an id is put right instead.

        Only of the API: which port and whose key others need is decided by their exact paths.
        """
        path: str = scope["path"]
        plain = plain_path(path)
        as_written = path.removeprefix("/v1")
        if plain.startswith(_WITH_IDS) and not as_written.startswith(_WITH_IDS):
            scope["path"] = plain  # else it is as the client wrote it: an id may hold slashes
        return self._endpoints.get(f"/v1{plain}")
