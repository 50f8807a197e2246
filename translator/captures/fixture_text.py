"""The text of a fixture's files.

`events.jsonl` begins with a line of its own, for the events `response.created` and
`response.in_progress`, whose responses are the same:

    {"first_response":{"model":"a-model","tools":[…]}}

It holds the fields in which that response is not the default one; `fixtures/first_response.json`
holds the default one, with an empty model.
"""

from __future__ import annotations

import json
from typing import Any

import translator
from translator.wire.json_values import as_list, as_object
from translator.wire.responses import Response

MAX_LINE_CHARACTERS = 100
"""Longest JSON value that is written on one line."""

FIRST_EVENTS = [("response.created", 0), ("response.in_progress", 1)]
"""Types and sequence numbers."""

DEFAULT_RESPONSE = Response(id="resp_" + "0" * 24, created_at=3, model="")


def text_of(name: str, value: Any) -> bytes:  # noqa: ANN401 - any JSON
    """A JSON value as the content of the file `name`: indented, or one event per line."""
    if name.endswith(".jsonl"):
        return "".join(f"{_compact(line)}\n" for line in _shortened(value)).encode()
    return (_indented(value) + "\n").encode()


def _shortened(events: list[Any]) -> list[Any]:
    """The lines for a stream's events; one line for the first two, if they hold the same."""
    first = events[: len(FIRST_EVENTS)]
    if [(event["type"], event["sequence_number"]) for event in first] != FIRST_EVENTS:
        return events
    response, repeated = (event["response"] for event in first)
    if _compact(response) != _compact(repeated):
        return events
    default = json.loads(translator.encode_json(DEFAULT_RESPONSE))
    differing = {
        name: value
        for name, value in response.items()
        if _compact(value) != _compact(default[name])  # 1, 1.0 and true are equal in Python
    }
    return [{"first_response": differing}, *events[len(FIRST_EVENTS) :]]


def _compact(value: Any) -> str:  # noqa: ANN401 - any JSON
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _indented(value: Any, indent: str = "") -> str:  # noqa: ANN401 - any JSON
    """JSON on as few lines as fit."""
    line = json.dumps(value, ensure_ascii=False)
    table, array = as_object(value), as_list(value)
    if len(indent) + len(line) <= MAX_LINE_CHARACTERS or (table is None and array is None):
        return line
    inner = f"{indent}  "
    if table is not None:
        lines = [f"{json.dumps(key)}: {_indented(one, inner)}" for key, one in table.items()]
        opening, closing = "{", "}"
    else:
        lines = [_indented(one, inner) for one in array or ()]
        opening, closing = "[", "]"
    joined = f",\n{inner}".join(lines)
    return f"{opening}\n{inner}{joined}\n{indent}{closing}"
