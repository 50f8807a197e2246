"""What is told of one request: in the log, and to whoever looks on.

A request is one HTTP exchange, or one turn on a WebSocket. Secrets are never part of it, and what
came from the client is quoted where it is not plain.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .witness import Witness

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class NewId(Protocol):
    """Makes an unguessable id that begins with `prefix`."""

    def __call__(self, prefix: str, /) -> str: ...


class Record:
    """One request, as far as it has come. A text that is empty is not known, or does not apply."""

    def __init__(self, method: str, path: str, *, given_id: str = "", new_id: NewId) -> None:
        """`given_id` is the client's own id for the request, taken when it is a sane one."""
        self.method = method
        self.path = path
        self.request_id = given_id if _REQUEST_ID.fullmatch(given_id) else new_id("req_")
        self.status: int | None = None
        """The HTTP status of the answer, as soon as it is sent; a turn's events are a 200, too."""
        self.model = ""
        self.dialect = ""
        self.notes = ""
        """How many notices there are, and their codes."""
        self.outcome = ""
        self.witness: Witness | None = None
        """Whoever looks on."""

    def over(self, seconds: float) -> None:
        """The request is over, after so long."""
        log.info("%s", self.line(seconds))
        if self.witness is not None:
            self.witness.ended(self)

    def line(self, seconds: float) -> str:
        """The log line, for a request that took so long."""
        words = [self.method, _plain(self.path), str(self.status or "-")]
        words.append(f"{max(0, round(seconds * 1000))}ms")
        facts = {name: getattr(self, name) for name in ("model", "dialect", "notes", "outcome")}
        words += [f"{name}={_plain(value)}" for name, value in facts.items() if value]
        words.append(f"id={self.request_id}")
        return " ".join(words)


def _plain(text: str) -> str:
    text = text[:200]
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)
