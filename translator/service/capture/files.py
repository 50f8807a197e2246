"""The files of a captured exchange, with the secrets removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from msgspec import Struct

import translator
from translator import Options, Target
from translator.captures import folder as captures
from translator.captures.folder import Manifest, UpstreamAnswer
from translator.captures.run import error_answer
from translator.service.base.version import VERSION
from translator.service.observe.record import bounded
from translator.wire.events import Event

from .exchange import Attempt, CapturedExchange
from .redaction import UPSTREAM_HEADERS, Redaction, without_tool_secrets

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_read_fields = msgspec.json.Decoder(dict[str, Any]).decode


def folder_name(exchange: CapturedExchange, redaction: Redaction) -> str:
    """Time, id and model: the order of the names is the order of time."""
    record = exchange.record
    words = (redaction.text(record.request_id)[:16], redaction.text(record.model)[-40:])
    plain = [_NOT_IN_A_NAME.sub("-", word).strip("-.") for word in words]
    return "-".join(filter(None, [time_name(exchange.started_at), *plain]))


def time_name(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def files_of(exchange: CapturedExchange, redaction: Redaction, limit: int) -> dict[str, bytes]:
    """The redacted files, within `limit` bytes; `exchange.toml` names those that do not fit."""
    left_out: list[str] = []
    files: dict[str, bytes] = {}
    for name, content in _bodies(exchange, redaction, left_out):
        clean = redaction(content)
        if len(clean) > limit:
            left_out.append(f"{name}: too large")
            continue
        limit -= len(clean)
        files[name] = clean
    files[captures.EXCHANGE] = redaction(captures.exchange_toml(_manifest(exchange, left_out)))
    return files


# --- bodies -------------------------------------------------------------------------------------


def _bodies(
    exchange: CapturedExchange, redaction: Redaction, left_out: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents, the most important first; adds to `left_out` why some are absent."""
    if exchange.request is not None:
        yield captures.REQUEST, without_tool_secrets(exchange.request)
    else:
        left_out.append(f"{captures.REQUEST}: too large")
    if exchange.earlier is not None:
        yield captures.EARLIER, msgspec.json.encode(exchange.earlier)
    elif exchange.earlier_overflow:
        left_out.append(f"{captures.EARLIER}: too large")
    if exchange.error is not None:
        yield captures.ERROR, _pretty(error_answer(exchange.error))
    if exchange.response is not None:
        yield captures.RESPONSE, _pretty(exchange.response)
    spelled = _spells_a_secret(exchange.events, redaction)
    if spelled:
        left_out.append("the answer: the model spelled a key in it")
    elif exchange.events:
        lines = [translator.encode_json(event) + b"\n" for event in exchange.events]
        yield captures.EVENTS, b"".join(lines)
    for number in range(len(exchange.attempts), 0, -1):
        is_last = number == len(exchange.attempts)
        place = "" if is_last else f"attempt_{number}/"
        yield from _attempt_files(
            exchange.attempts[number - 1],
            place,
            left_out,
            with_answer=not (is_last and spelled),
        )


def _attempt_files(
    attempt: Attempt, place: str, left_out: list[str], *, with_answer: bool
) -> Iterator[tuple[str, bytes]]:
    is_compressed = attempt.translated is None and "content-encoding" in attempt.headers
    if attempt.body is None:
        left_out.append(f"{place}{captures.CHAT}: too large")
    if attempt.overflow:
        left_out.append(f"{place}the upstream's answer, and what became of it: too large")
    if is_compressed:
        left_out.append(f"{place}the upstream's answer: compressed")
    if attempt.body is not None:
        yield place + captures.CHAT, without_tool_secrets(attempt.body)
    if attempt.status is None or attempt.overflow or is_compressed or not with_answer:
        return
    body = b"".join(attempt.chunks)
    if attempt.is_refused:
        text = captures.http_text(attempt.status, _upstream_headers(attempt), body)
        yield place + captures.UPSTREAM_HTTP, text
    else:
        yield place + captures.body_name(body), body


def _upstream_headers(attempt: Attempt) -> dict[str, str]:
    found = {name.lower(): value for name, value in attempt.headers.items()}
    return {name: value for name, value in found.items() if UPSTREAM_HEADERS.fullmatch(name)}


def _spells_a_secret(events: Sequence[Event], redaction: Redaction) -> bool:
    """Whether the deltas of an answer, joined, contain a secret that none of them contains."""
    deltas = [getattr(event, "delta", "") for event in events]
    clean = "".join(map(redaction.text, filter(None, deltas)))
    return redaction.text(clean) != clean


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


# --- exchange.toml ------------------------------------------------------------------------------


def _manifest(exchange: CapturedExchange, left_out: list[str]) -> Manifest:
    record, last = exchange.record, exchange.last_attempt
    return Manifest(
        translator=VERSION,
        id=record.request_id,
        at=_iso(exchange.started_at),
        method=record.method,
        path=record.path,
        client=record.client,
        user_agent=_header(exchange.headers, b"user-agent"),
        model=record.model,
        status=record.status,
        outcome=bounded(record.outcome),
        seconds=exchange.seconds,
        upstream_s=exchange.upstream_s,
        output_s=exchange.output_s,
        attempts=len(exchange.attempts),
        rounds=record.rounds,
        changed=_changed_fields(last),
        left_out=left_out,
        notices=list(last.notices),
        upstream=_upstream_answer(exchange) if exchange.attempts else None,
        **_replay_facts(exchange),
    )


def _replay_facts(exchange: CapturedExchange) -> dict[str, Any]:
    """The fields that a replay translates with; none for a request that was not routed."""
    route = exchange.route
    if route is None:
        return {}
    dialect = exchange.last_attempt.dialect or route.dialect
    target = exchange.last_attempt.target or Target(
        route.upstream_model, route.max_output_tokens, route.vision, route.context_window
    )
    model = target.model or exchange.record.model
    return {
        "dialect": dialect.name,
        "dialect_fields": captures.facts_of(dialect, model),
        "options": _changes(Options(), route.options),
        "target": _changes(Target(), target),
    }


def _upstream_answer(exchange: CapturedExchange) -> UpstreamAnswer:
    last = exchange.last_attempt
    upstream = exchange.route.upstream if exchange.route is not None else None
    error = None if last.is_refused else last.error
    return UpstreamAnswer(
        name=upstream.name if upstream is not None else "",
        own_key=upstream is not None and upstream.has_credential,
        status=last.status,
        headers=_upstream_headers(last),
        broke=error.message if error is not None else "",
        broke_status=error.status_hint if error is not None else None,
    )


def _changed_fields(attempt: Attempt) -> list[str]:
    """The fields in which the chat request that was sent differs from its translation."""
    translated, body = attempt.translated, attempt.body
    if translated is None or body is None or translated == body:
        return []
    one, other = map(_read_fields, (translated, body))
    return [name for name in one | other if one.get(name) != other.get(name)]


def _changes(default: Struct, struct: Struct) -> dict[str, Any]:
    """The fields of a struct that differ from the default."""
    before, fields = map(msgspec.structs.asdict, (default, struct))
    return {
        name: dict(cast("Mapping[str, str]", value)) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value != before[name]
    }


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((str(value, "latin-1") for key, value in headers if key == name), "")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
