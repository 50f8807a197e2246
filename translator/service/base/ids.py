"""Random ids, the protocol by which tests replace them, and the id of the current request."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Protocol

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task works for; empty in any other task.

The log adds it to each line. Callbacks of a connection run in the context of the request that
opened it: what they log names its request itself, by `log_extra`.
"""


def log_extra(request_id: str, *, in_text: bool = False) -> dict[str, object]:
    """The argument `extra` of a log call for a request; for none where the id is empty.

    `in_text`: the message has the id already.
    """
    return {"request_id": request_id, "id_in_text": in_text}


class NewId(Protocol):
    """Returns an unguessable id that begins with `prefix`."""

    def __call__(self, prefix: str, /) -> str: ...


def random_id(prefix: str) -> str:
    """An id of 128 random bits."""
    return prefix + os.urandom(16).hex()
