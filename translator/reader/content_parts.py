"""Content that is a list of parts: texts, and reasoning, which is a list of texts again.

Mistral has the reasoning under `thinking`, Databricks (for Claude) under `summary`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from translator.wire.json_values import as_list, as_object, as_string, objects_in


def texts_of(parts: list[Any]) -> Iterator[tuple[bool, str]]:
    """Each text that is not empty, and whether it is reasoning."""
    for part in parts:
        fields = as_object(part) or {"text": part}
        if fields.get("type") in ("thinking", "reasoning"):
            given = fields.get("thinking") or fields.get("summary") or fields.get("text")
            for thought in objects_in(as_list(given) or [{"text": given}]):
                if text := as_string(thought.get("text")):
                    yield True, text
        elif text := as_string(fields.get("text")):
            yield False, text
