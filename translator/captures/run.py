"""The exchange runner: one request and its upstream answer through the core, deterministically.

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
from translator.reader.upstream_errors import for_client
from translator.request.compaction import unseal_summary
from translator.wire.errors import UpstreamError

Ending: TypeAlias = Literal["whole", "open"] | UpstreamError
"""How an upstream's answer ended: whole, still open when the client left, broken by an error."""


class Refusal(Struct, frozen=True):
    """An upstream's HTTP error."""

    status: int
    headers: dict[str, str]
    body: bytes


class Inputs(Struct, frozen=True, kw_only=True):
    """Everything that determines the outcome of an exchange.

    `body` is the upstream's answer as far as it was received; `ends`, how it ended. `own_key`: the
    request was sent with the operator's key.
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
    """The outcome of an exchange, as JSON values; None for what it lacks.

    An answer that fails before its first item has events and an error: which of them is sent to
    the client depends on how long it took.
    """

    chat: Any = None
    notices: tuple[Notice, ...] = ()
    events: list[Any] | None = None
    response: Any = None
    error: Any = None

    @property
    def is_refusal(self) -> bool:
        """Whether the request was refused before anything was sent upstream."""
        return self.chat is None and self.error is not None


def run(inputs: Inputs, new_id: Callable[[str], str]) -> Outcome:
    """Run an exchange. `new_id(prefix)` generates ids that begin with the prefix."""
    outcome = Outcome()
    try:
        t = translator.Translation(
            inputs.request,
            dialect=inputs.dialect,
            options=inputs.options,
            target=inputs.target,
            earlier=inputs.earlier,
            response_id="resp_" + "0" * 24,
            created_at=3,
            now=lambda: 5,
            new_id=new_id,
            judge=lambda error: for_client(error, own_credential=inputs.own_key),
        )
    except TranslatorError as error:
        outcome.error = error_answer(error)
        return outcome
    outcome.notices = t.notices
    if not t.wants_answer:
        outcome.events = _as_json(t.skip())
        outcome.response = as_json(t.response)
        return outcome
    outcome.chat = json.loads(t.chat_body)
    try:
        if inputs.refusal is not None:
            raise _refused(inputs, inputs.refusal, t.chat_body)
        _answer(inputs, t, outcome)
    except TranslatorError as error:
        outcome.error = error_answer(error)
    return outcome


def _answer(inputs: Inputs, t: translator.Translation, outcome: Outcome) -> None:
    if inputs.body is None:
        if isinstance(inputs.ends, UpstreamError):
            raise inputs.ends
        return
    if not t.request.stream:
        if isinstance(inputs.ends, UpstreamError):
            raise inputs.ends
        outcome.response = as_json(t.complete(inputs.body))
        return
    events = [*t.start(), *t.receive(inputs.body)]
    if inputs.ends != "open":
        events += t.close(inputs.ends if isinstance(inputs.ends, UpstreamError) else None)
    outcome.events = _as_json(events)
    if t.error is not None and not t.produced:
        raise t.error


def _refused(inputs: Inputs, refusal: Refusal, sent: bytes) -> UpstreamError:
    error = translator.read_upstream_error(
        refusal.status,
        refusal.body,
        retry_after=refusal.headers.get("retry-after"),
        silent_overflow=inputs.dialect.overflows_silently(len(sent)),
    )
    return for_client(error, own_credential=inputs.own_key)


def counting_ids(form: str) -> Callable[[str], str]:
    """An id generator that counts; `form` is the format of the number, as in "024d"."""
    count = itertools.count(1)
    return lambda prefix: f"{prefix}{next(count):{form}}"


def error_answer(error: TranslatorError) -> dict[str, Any]:
    """The HTTP response for an error."""
    return {"status": error.status_hint, "headers": error.headers, "body": error.envelope()}


def _as_json(events: Sequence[Event]) -> list[Any]:
    return [as_json(event) for event in events]


def as_json(value: Event | Response) -> Any:  # noqa: ANN401 - any JSON
    """An event or a response as JSON, with its sealed content unsealed."""
    body = json.loads(translator.encode_json(value))
    unseal_in_place(body)
    return body


def unseal_in_place(body: dict[str, Any]) -> None:
    """Replace sealed content by its plain form: compression may differ between versions."""
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
