"""Notices: what the translation dropped or weakened, as values.

Silence is not an option of the code: what is not carried over becomes a notice, which the service
shows in a header and a log line, and which strict mode turns into an error.
"""

from __future__ import annotations

from msgspec import Struct


class Notice(Struct, frozen=True):
    """One loss.

    `path` is the path in the request, as in "tools[3]"; `code` a short fixed word for headers and
    metrics; `message` a sentence that says what happens instead.
    """

    path: str
    code: str
    message: str
