"""An exchange, run through the core once more.

Ids are counted and the clock stands still, so the outcome is the same in every run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

import translator
from translator import Dialect, Event, Notice, Options, Response, Target, TranslatorError
from translator.common.sealed import unseal
from translator.request.compaction import unseal_summary
from translator.wire.errors import CredentialRefused, UpstreamError

Ending: TypeAlias = Literal["whole", "open"] | UpstreamError
"""How an upstream's answer ended: whole, still open when the client left, broken by an error."""


class Refusal(Struct, frozen=True):
    """An upstream's HTTP error."""

    status: int
    headers: dict[str, str]
    body: bytes


class Given(Struct, frozen=True, kw_only=True):
    """All that decides what a client gets.

    `body` is as much as came of the upstream's answer.
    """

    request: bytes
    earlier: list[Raw] | None = None
    dialect: Dialect
    options: Options
    target: Target
    body: bytes | None = None
    refusal: Refusal | None = None
    ends: Ending = "whole"
    own_key: bool = False


class Outcome(Struct):
    """What becomes of it, as JSON values; None for what there is not.

    An answer that fails before an item of it began has events and an error: which of the two the
    client gets depends on how long it took.
    """

    chat: Any = None
    notices: tuple[Notice, ...] = ()
    events: list[Any] | None = None
    response: Any = None
    error: Any = None

    @property
    def is_refusal(self) -> bool:
        """Whether the request is refused here, before anything goes upstream."""
        return self.chat is None and self.error is not None


def run(given: Given, new_id: Callable[[str], str]) -> Outcome:
    """Run it. `new_id` makes ids that begin with the prefix that it is given."""
    outcome = Outcome()
    try:
        t = translator.Translation(
            given.request,
            dialect=given.dialect,
            options=given.options,
            target=given.target,
            earlier=given.earlier,
            response_id="resp_" + "0" * 24,
            created_at=3,
            now=lambda: 5,
            new_id=new_id,
            judge=lambda error: _judged(error, own_key=given.own_key),
        )
    except TranslatorError as error:
        outcome.error = error_answer(error)
        return outcome
    outcome.notices = t.notices
    if not t.wants_answer:
        outcome.events = _opened(t.skip())
        outcome.response = opened(t.response)
        return outcome
    outcome.chat = json.loads(t.chat_body)
    try:
        if given.refusal is not None:
            raise _refused(given, t.chat_body)
        _answer(given, t, outcome)
    except TranslatorError as error:
        outcome.error = error_answer(error)
    return outcome


def _answer(given: Given, t: translator.Translation, outcome: Outcome) -> None:
    if given.body is None:
        if isinstance(given.ends, UpstreamError):
            raise given.ends
        return
    if not t.request.stream:
        if isinstance(given.ends, UpstreamError):
            raise given.ends
        outcome.response = opened(t.complete(given.body))
        return
    events = [*t.start(), *t.receive(given.body)]
    if given.ends != "open":
        events += t.close(given.ends if isinstance(given.ends, UpstreamError) else None)
    outcome.events = _opened(events)
    if t.error is not None and not t.produced:
        raise t.error


def _refused(given: Given, sent: bytes) -> UpstreamError:
    refusal = given.refusal
    assert refusal is not None
    error = translator.read_upstream_error(
        refusal.status,
        refusal.body,
        retry_after=refusal.headers.get("retry-after"),
        silent_overflow=given.dialect.overflows_silently(len(sent)),
    )
    return _judged(error, own_key=given.own_key)


def _judged(error: UpstreamError, *, own_key: bool) -> UpstreamError:
    return CredentialRefused() if own_key and error.status_hint in (401, 403) else error


def counted(form: str) -> Callable[[str], str]:
    """Ids that count: `form` is how a number stands in one, as in "024d"."""
    count = itertools.count(1)
    return lambda prefix: f"{prefix}{next(count):{form}}"


def error_answer(error: TranslatorError) -> dict[str, Any]:
    """An error as the HTTP answer that it becomes."""
    return {"status": error.status_hint, "headers": error.headers, "body": error.envelope()}


def _opened(events: Sequence[Event]) -> list[Any]:
    return [opened(event) for event in events]


def opened(value: Event | Response) -> Any:  # noqa: ANN401 - any JSON
    """An event or a response as JSON, what is sealed in it opened."""
    body = json.loads(translator.encode_json(value))
    open_sealed(body)
    return body


def open_sealed(body: dict[str, Any]) -> None:
    """Put what is sealed in an event or a response in its place: its packing may differ."""
    items: list[dict[str, Any]] = [body.get("item") or {}]
    items += body.get("response", body).get("output", [])
    for item in items:
        blob = item.get("encrypted_content")
        if not isinstance(blob, str):
            continue
        thought, summary = unseal(blob), unseal_summary(blob)
        if thought is not None:
            fields = json.loads(msgspec.json.encode(thought))
            item["encrypted_content"] = {name: value for name, value in fields.items() if value}
        elif summary is not None:
            item["encrypted_content"] = {"summary": summary}
