"""Notices: losses of the translation, as values.

Everything that is dropped or weakened becomes a notice. The service shows it in a header and a log
line; strict mode turns it into an error.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

NOTICE_CODES = (
    *("ignored", "weakened", "clamped", "tool_dropped", "item_dropped", "reference_dropped"),
    *("reasoning_dropped", "image_omitted", "role_demoted", "output_missing", "arguments_wrapped"),
    *("message_summarised", "fallback", "refused_upstream", "image_described"),
    *("duplicate_dropped", "call_dropped", "results_dropped"),
    *("store_ignored", "store_unavailable", "store_quota_exceeded"),
)
"""All codes of notices."""


class Notice(Struct, frozen=True):
    """One loss.

    `path` is the path in the request, as in "tools[3]"; `code` a short fixed word for headers and
    metrics; `message` a sentence about what happens instead.
    """

    path: str
    code: str
    message: str

    error_code: ClassVar[str | None] = "unsupported_parameter"
    """The code of the error that it becomes in strict mode."""

    @property
    def refusal(self) -> str:
        """The message of that error."""
        return self.message


def clamped(path: str, limit: int) -> Notice:
    """The loss of a number of output tokens above the model's `limit`."""
    return Notice(path, "clamped", f"The model generates at most {limit} tokens.")


class UnknownWord(Notice, frozen=True):
    """The loss of a word that is none of the field's; `word` may be cut."""

    word: str

    error_code: ClassVar[str | None] = "invalid_value"

    @property
    def refusal(self) -> str:
        return f"Unknown value '{self.word}'; it is not supported."


class DuplicateItem(Notice, frozen=True):
    """The loss of an input item that stands in the context already; OpenAI refuses it."""

    item_id: str

    error_code: ClassVar[str | None] = None

    @property
    def refusal(self) -> str:
        return (
            f"Duplicate item found with id {self.item_id}. "
            "Remove duplicate items from your input and try again."
        )
