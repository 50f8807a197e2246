"""Fields of requests that change what an upstream charges, and are refused where that is billed."""

from __future__ import annotations

from collections.abc import Iterable

from translator.wire.errors import InvalidRequest

from .client import Client

USUAL = (None, "auto", "default")
"""Values that change no price."""


def check_withheld(client: Client, fields: Iterable[tuple[str, object]]) -> None:
    """Raise InvalidRequest for a field, of the name and the value, that the client may not send."""
    for name, value in fields:
        if name in client.withheld and value not in USUAL:
            raise InvalidRequest(
                f"Unsupported parameter: '{name}'. It changes the price of a request.",
                param=name,
                code="unsupported_parameter",
            )
