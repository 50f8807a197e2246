"""Replay: runs a captured exchange again and compares the outcome with the capture.

The comparison leaves out ids generated here, times, heartbeats, and headers of errors. For a client
that left, the captured events must be the beginning of the new ones.
"""

from __future__ import annotations

import difflib
import json
import re
from http import HTTPStatus
from typing import Any

from msgspec import Struct

from translator.wire.errors import UpstreamError, UpstreamTimeout

from .folder import CHAT, ERROR, EVENTS, REQUEST, RESPONSE, Capture, CaptureError, UpstreamAnswer
from .run import Ending, Inputs, Outcome, Refusal, counting_ids, run, unseal_in_place

_OWN_ID = re.compile(r"\b([a-z]+_)(?:[0-9a-f]{32}|0{24})\b")
"""Ids as the service and `run.counting_ids` generate them."""

_TIMES = ("created_at", "completed_at")


class Comparison(Struct, frozen=True):
    """One file of a capture, compared line by line; `diff` is empty where nothing changed."""

    name: str
    lines: int
    diff: list[str]


def inputs_of(capture: Capture) -> Inputs:
    """The inputs of a captured exchange. Raises CaptureError where the capture lacks them."""
    manifest = capture.manifest
    request = capture.content(REQUEST)
    if request is None:
        raise CaptureError(_missing(capture, REQUEST))
    if manifest.passed_through:
        raise CaptureError("its client sent a chat request, so nothing was translated")
    if manifest.rounds > 1:
        raise CaptureError(
            f"tools ran between its {manifest.rounds} upstream turns, and their results are not in"
            " it; each turn has a folder of its own"
        )
    answer = manifest.upstream or UpstreamAnswer()
    body, refusal = capture.body, capture.refusal
    if answer.status is not None and body is None and refusal is None:
        raise CaptureError(_missing(capture, "the upstream's answer"))
    return Inputs(
        request=request,
        earlier=capture.earlier,
        dialect=capture.dialect,
        options=capture.options,
        target=capture.target,
        body=body,
        refusal=None if refusal is None else Refusal(answer.status or 0, answer.headers, refusal),
        ends=_end(answer, client_left=manifest.client_left),
        own_key=answer.own_key,
    )


def _end(answer: UpstreamAnswer, *, client_left: bool) -> Ending:
    if answer.broke:
        if answer.broke_status == HTTPStatus.GATEWAY_TIMEOUT:
            return UpstreamTimeout(answer.broke)
        return UpstreamError(answer.broke)
    return "open" if client_left else "whole"


def _missing(capture: Capture, what: str) -> str:
    why = "; ".join(capture.manifest.left_out)
    return f"{what} is not in it{f': {why}' if why else ''}"


def replay(capture: Capture) -> Outcome:
    """The new outcome, with ids that look like the service's. Raises CaptureError."""
    return run(inputs_of(capture), counting_ids("032x"))


def compare(capture: Capture, now: Outcome) -> list[Comparison]:
    """Each captured file beside the new outcome. Raises CaptureError where there is none."""
    found: list[Comparison] = []
    chat = capture.json(CHAT)
    if chat is not None:
        fields = set(capture.manifest.changed)
        before, after = _without(chat, fields), _without(now.chat or {}, fields)
        found.append(_compare(CHAT, [before], [after]))
    error, events, response = capture.json(ERROR), capture.lines(EVENTS), capture.json(RESPONSE)
    if error is not None and not capture.manifest.dialect and now.error is None:
        raise CaptureError(f"it was never routed: {error['body']['error']['message']}")
    if error is not None:
        before, after = _without(error, {"headers"}), _without(now.error or {}, {"headers"})
        found.append(_compare(ERROR, [before], [after]))
    if events is not None:
        old, new = _normalized_events(events), _normalized_events(now.events or [])
        if capture.manifest.client_left:
            new = new[: len(old)]
        found.append(_compare(EVENTS, old, new))
    if response is not None:
        found.append(_compare(RESPONSE, [_normalized(response)], [_normalized(now.response or {})]))
    if not found:
        raise CaptureError(_missing(capture, "its outcome"))
    return found


def _compare(name: str, before: list[Any], after: list[Any]) -> Comparison:
    one, other = _text(before), _text(after)
    diff = list(difflib.unified_diff(one, other, "as it was", "as it is now", n=1, lineterm=""))
    return Comparison(name, len(one), diff)


def _text(values: list[Any]) -> list[str]:
    """JSON values as lines: one per event of a stream, otherwise indented."""
    indent = None if len(values) > 1 else 2
    lines = [json.dumps(one, ensure_ascii=False, indent=indent) for one in values]
    known: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return known.setdefault(match[0], f"{match[1]}{len(known) + 1}")

    return _OWN_ID.sub(numbered, "\n".join(lines)).splitlines()


def _normalized_events(events: list[Any]) -> list[Any]:
    """Events without heartbeats, renumbered."""
    first_two, rest = events[:2], events[2:]
    counted = [*first_two, *(one for one in rest if one["type"] != "response.in_progress")]
    return [_normalized(event) | {"sequence_number": at} for at, event in enumerate(counted)]


def _normalized(value: dict[str, Any]) -> dict[str, Any]:
    """An event or a response with its times set to 0 and its sealed content unsealed."""
    unseal_in_place(value)
    for body in (value, value.get("response", {})):
        body.update((name, 0) for name in _TIMES if body.get(name) is not None)
    return value


def _without(value: dict[str, Any], fields: set[str]) -> dict[str, Any]:
    """An object without some of its fields."""
    return {name: one for name, one in value.items() if name not in fields}
