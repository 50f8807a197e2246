"""What a client got, and what it would get now: the same, or where not.

Compared is all but ids that were made here, times, heartbeats, and the headers of errors. Where
the client left, what it got must be the beginning of what there is now.
"""

from __future__ import annotations

import difflib
import json
import re
from http import HTTPStatus
from typing import Any

from msgspec import Struct

from translator.wire.errors import UpstreamError, UpstreamTimeout

from .folder import CHAT, ERROR, EVENTS, REQUEST, RESPONSE, Answered, Folder, NotKept
from .run import Ending, Given, Outcome, Refusal, counted, open_sealed, run

_OWN_ID = re.compile(r"\b([a-z]+_)(?:[0-9a-f]{32}|0{24})\b")
"""Ids as the service makes them, and as they are counted here."""

_TIMES = ("created_at", "completed_at")


class Comparison(Struct, frozen=True):
    """One file of the folder, line by line; `diff` is empty where it holds what there is now."""

    name: str
    lines: int
    diff: list[str]


def given_by(folder: Folder) -> Given:
    """What was given in this exchange; raises NotKept where that is not in the folder."""
    kept = folder.kept
    request = folder.content(REQUEST)
    if request is None:
        raise NotKept(_without(folder, REQUEST))
    if kept.passed_through:
        raise NotKept("its client spoke chat completions, so nothing was translated")
    answered = kept.upstream or Answered()
    body, refusal = folder.body, folder.refusal
    if answered.status is not None and body is None and refusal is None:
        raise NotKept(_without(folder, "the upstream's answer"))
    return Given(
        request=request,
        earlier=folder.earlier,
        dialect=folder.dialect,
        options=folder.options,
        target=folder.target,
        body=body,
        refusal=None
        if refusal is None
        else Refusal(answered.status or 0, answered.headers, refusal),
        ends=_end(answered, client_left=kept.client_left),
        own_key=answered.own_key,
    )


def _end(answered: Answered, *, client_left: bool) -> Ending:
    if answered.broke:
        if answered.broke_status == HTTPStatus.GATEWAY_TIMEOUT:
            return UpstreamTimeout(answered.broke)
        return UpstreamError(answered.broke)
    return "open" if client_left else "whole"


def _without(folder: Folder, what: str) -> str:
    why = "; ".join(folder.kept.left_out)
    return f"{what} is not in it{f': {why}' if why else ''}"


def replayed(folder: Folder) -> Outcome:
    """The outcome of the exchange now, with ids that look like the service's; raises NotKept."""
    return run(given_by(folder), counted("032x"))


def compared(folder: Folder, now: Outcome) -> list[Comparison]:
    """What is in the folder beside what there is now; raises NotKept where nothing can be."""
    found: list[Comparison] = []
    chat = folder.json(CHAT)
    if chat is not None:
        fields = set(folder.kept.changed)
        found.append(_compare(CHAT, [_but(chat, fields)], [_but(now.chat or {}, fields)]))
    error, events, response = folder.json(ERROR), folder.lines(EVENTS), folder.json(RESPONSE)
    if error is not None and not folder.kept.dialect and now.error is None:
        raise NotKept(f"it went nowhere: {error['body']['error']['message']}")
    if error is not None:
        headers = {"headers"}
        found.append(_compare(ERROR, [_but(error, headers)], [_but(now.error or {}, headers)]))
    if events is not None:
        before, after = _stream(events), _stream(now.events or [])
        if folder.kept.client_left:
            after = after[: len(before)]
        found.append(_compare(EVENTS, before, after))
    if response is not None:
        found.append(_compare(RESPONSE, [_settled(response)], [_settled(now.response or {})]))
    if not found:
        raise NotKept(_without(folder, "what became of it"))
    return found


def _compare(name: str, before: list[Any], after: list[Any]) -> Comparison:
    one, other = _text(before), _text(after)
    diff = list(difflib.unified_diff(one, other, "as it was", "as it is now", n=1, lineterm=""))
    return Comparison(name, len(one), diff)


def _text(values: list[Any]) -> list[str]:
    """Values as lines: a stream's events one on each, anything else spread out."""
    indent = None if len(values) > 1 else 2
    lines = [json.dumps(one, ensure_ascii=False, indent=indent) for one in values]
    known: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return known.setdefault(match[0], f"{match[1]}{len(known) + 1}")

    return _OWN_ID.sub(numbered, "\n".join(lines)).splitlines()


def _stream(events: list[Any]) -> list[Any]:
    """Events without heartbeats, numbered anew."""
    first_two, rest = events[:2], events[2:]
    flowing = [*first_two, *(one for one in rest if one["type"] != "response.in_progress")]
    return [_settled(event) | {"sequence_number": at} for at, event in enumerate(flowing)]


def _settled(value: dict[str, Any]) -> dict[str, Any]:
    """An event or a response without its times, and with what is sealed in it opened."""
    open_sealed(value)
    for body in (value, value.get("response", {})):
        body.update((name, 0) for name in _TIMES if body.get(name) is not None)
    return value


def _but(value: dict[str, Any], fields: set[str]) -> dict[str, Any]:
    """An object without some of its fields."""
    return {name: one for name, one in value.items() if name not in fields}
