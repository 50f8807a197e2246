"""The capture format: one recorded exchange as a folder.

    exchange.toml    the manifest: settings in force, timing, outcome
    request.json     the client's request body
    earlier.json     the items of the previous response, on a WebSocket that remembers them
    chat.json        the chat request sent upstream, of the last attempt
    upstream.sse     the upstream's response to it: an event stream,
    upstream.json      one JSON body,
    upstream.http      or an HTTP error: status line, headers, body
    events.jsonl     the events sent to the client, one per line
    response.json    the response body, where the client asked for no stream
    error.json       the HTTP error sent in place of an answer
    attempt_1/, …    `chat.json` and the upstream's response of each earlier attempt

Without `exchange.toml` and the earlier attempts it is a fixture. Bodies are stored byte for byte,
with `[removed]` in place of each key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from translator import DIALECTS, Dialect, Notice, Options, Target
from translator.common.toml import toml_lines
from translator.dialects.table import own_facts
from translator.reader.body_sniffer import begins_value
from translator.wire.json_values import as_object, decode_elements

EXCHANGE = "exchange.toml"
REQUEST = "request.json"
EARLIER = "earlier.json"
CHAT = "chat.json"
UPSTREAM_SSE = "upstream.sse"
UPSTREAM_JSON = "upstream.json"
UPSTREAM_HTTP = "upstream.http"
EVENTS = "events.jsonl"
RESPONSE = "response.json"
ERROR = "error.json"

T = TypeVar("T")


class CaptureError(Exception):
    """The capture cannot be read or used; the message gives the reason."""


class UpstreamAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The upstream's response. `broke` is the reason why its body ended early."""

    name: str = ""
    own_key: bool = False
    """The request was sent with the operator's key."""
    status: int | None = None
    headers: dict[str, str] = {}
    broke: str = ""
    broke_status: int | None = None
    """The HTTP status for the failure in `broke`."""


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of `exchange.toml`. Times are in seconds from the request's beginning."""

    translator: str
    """The version that wrote the capture."""
    id: str
    at: str
    method: str
    path: str
    client: str = ""
    """The client's name in the settings."""
    user_agent: str = ""
    model: str = ""
    status: int | None = None
    outcome: str = ""
    seconds: float = 0.0
    upstream_s: float | None = None
    """When the upstream's status line was received."""
    output_s: float | None = None
    """When the first output was sent to the client."""
    attempts: int = 0
    rounds: int = 1
    """The upstream turns of the response; each is one of the attempts, or more."""
    changed: list[str] = []
    """Fields of the chat request that were changed because the upstream rejected them before."""
    left_out: list[str] = []
    """The missing files, each with the reason."""
    notices: list[Notice] = []
    upstream: UpstreamAnswer | None = None
    dialect: str = ""
    """Empty for a request that was refused before it was routed."""
    dialect_fields: dict[str, Any] = {}
    """Facts that differ from the dialect's facts for the model."""
    options: dict[str, Any] = {}
    target: dict[str, Any] = {}

    @property
    def passed_through(self) -> bool:
        """Whether the client sent a chat request, which is not translated."""
        return self.path.endswith("/chat/completions")

    @property
    def client_left(self) -> bool:
        return self.outcome.startswith("client left")


class Capture:
    """A capture, read from its folder. Missing files are None; raises CaptureError for bad ones."""

    def __init__(self, path: Path) -> None:
        """Raises CaptureError where the manifest is missing or invalid."""
        self.path = path
        text = self.content(EXCHANGE)
        if text is None:
            raise CaptureError(f"there is no {EXCHANGE} in it")
        try:
            self.manifest = msgspec.toml.decode(text, type=Manifest)
        except (msgspec.DecodeError, ValueError) as error:  # which it is that is not UTF-8
            raise CaptureError(f"{EXCHANGE}: {error}") from None

    def content(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CaptureError(f"{name} cannot be read: {error.strerror}") from None

    def json(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        text = self.content(name)
        return None if text is None else _decoded(name, text)

    def lines(self, name: str) -> list[Any] | None:
        """The JSON value on each line."""
        text = self.content(name)
        return None if text is None else [_decoded(name, line) for line in text.splitlines()]

    @property
    def earlier(self) -> list[Raw] | None:
        text = self.content(EARLIER)
        try:
            return None if text is None else decode_elements(text)
        except msgspec.DecodeError as error:
            raise CaptureError(f"{EARLIER}: {error}") from None

    @property
    def body(self) -> bytes | None:
        """The body of the upstream's answer as far as it was received; None without one."""
        for name in (UPSTREAM_SSE, UPSTREAM_JSON):
            if (body := self.content(name)) is not None:
                return body
        return None

    @property
    def refusal(self) -> bytes | None:
        """The body of the upstream's HTTP error."""
        text = self.content(UPSTREAM_HTTP)
        return None if text is None else text.partition(b"\n\n")[2]

    @property
    def dialect(self) -> Dialect:
        """The facts in force for the last attempt."""
        try:
            return dialect_with(self.manifest, self.manifest.dialect_fields)
        except (KeyError, msgspec.ValidationError) as error:
            raise CaptureError(f"{EXCHANGE}: the dialect is not known: {error}") from None

    @property
    def options(self) -> Options:
        return _converted("options", self.manifest.options, Options)

    @property
    def target(self) -> Target:
        return _converted("target", self.manifest.target, Target)


def _converted(name: str, table: dict[str, Any], to: type[T]) -> T:
    try:
        return msgspec.convert(table, to)
    except msgspec.ValidationError as error:
        raise CaptureError(f"{EXCHANGE}: {name}: {error}") from None


def _decoded(name: str, text: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError as error:
        raise CaptureError(f"{name} is not JSON: {error}") from None


# --- the facts in force -------------------------------------------------------------------------


def facts_of(dialect: Dialect, model: str) -> dict[str, Any]:
    """The facts that differ from those of the known dialect of this name, for the model."""
    return own_facts(dialect, DIALECTS[dialect.name].for_model(model))


def dialect_with(manifest: Manifest, fields: Mapping[str, Any]) -> Dialect:
    """The dialect of a capture, with facts in their TOML form replaced.

    Raises KeyError for an unknown name, ValidationError for a fact of a wrong type.
    """
    kinds = {field.name: field.type for field in msgspec.structs.fields(Dialect)}
    facts = {
        name: None  # TOML has no null
        if value is False and kinds[name] is not bool
        else msgspec.convert(value, kinds[name])
        for name, value in fields.items()
    }
    model = manifest.target.get("model") or manifest.model
    return msgspec.structs.replace(
        DIALECTS[manifest.dialect or "base"].for_model(model), models=(), **facts
    )


# --- as text ------------------------------------------------------------------------------------


def exchange_toml(manifest: Manifest) -> bytes:
    """The text of `exchange.toml`."""
    return "".join(f"{line}\n" for line in _lines(manifest)).encode()


def _lines(manifest: Manifest) -> Iterator[str]:
    yield "# One exchange. `translator replay` and `translator fixture` read this folder."
    fields: dict[str, Any] = msgspec.to_builtins(manifest)
    tables = {name: table for name, value in fields.items() if (table := as_object(value))}
    yield from toml_lines({name: one for name, one in fields.items() if name not in tables})
    for name, table in tables.items():
        yield f"\n[{name}]"
        yield from toml_lines(table)


def http_text(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The text of `upstream.http`."""
    known = status in set(HTTPStatus)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else 'Unknown'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\n".join(lines).encode() + b"\n\n" + body


def body_name(body: bytes) -> str:
    """The file name for an answer's body: an event stream, or one JSON body."""
    return UPSTREAM_JSON if begins_value(body) else UPSTREAM_SSE
