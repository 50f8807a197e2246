"""One exchange as a folder.

    exchange.toml    what was in force, and what became of it
    request.json     what the client sent
    earlier.json     the items of the previous response, where a WebSocket remembers them
    chat.json        the chat request that went upstream; of several, the last
    upstream.sse     the upstream's answer to it: a stream,
    upstream.json      one body,
    upstream.http      or a refusal: status line, headers, body
    events.jsonl     the events that the client got, one per line
    response.json    the body that it got where it asked for no stream
    error.json       the HTTP error that it got in place of an answer
    attempt_1/, …    `chat.json` and the upstream's answer of each attempt before the last

So it is a fixture, but for `exchange.toml` and what was tried before. Bodies are as they came, byte
for byte, with REMOVED in place of each key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator import DIALECTS, Dialect, Notice, Options, Target
from translator.common.toml import toml_lines
from translator.dialects.table import own_facts
from translator.wire.json_values import as_object

EXCHANGE = "exchange.toml"
REQUEST = "request.json"
EARLIER = "earlier.json"
CHAT = "chat.json"
EVENTS = "events.jsonl"
RESPONSE = "response.json"
ERROR = "error.json"

REMOVED = "[removed]"
"""Stands where a key stood."""


class NotKept(Exception):
    """The folder holds no exchange that can be read; says why."""


class Answered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the upstream answered. `broke` says why the answer ended before its end."""

    name: str = ""
    own_key: bool = False
    """The key was the operator's."""
    status: int | None = None
    headers: dict[str, str] = {}
    broke: str = ""
    broke_status: int | None = None
    """The HTTP status for that failure."""


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`exchange.toml`. Times are in seconds from the request's beginning."""

    translator: str
    """The version that kept it."""
    id: str
    at: str
    method: str
    path: str
    client: str = ""
    """Its name in the settings."""
    user_agent: str = ""
    model: str = ""
    status: int | None = None
    outcome: str = ""
    seconds: float = 0.0
    upstream_s: float | None = None
    """When the upstream's status line was there."""
    output_s: float | None = None
    """When the client got the first of the answer itself."""
    attempts: int = 0
    changed: list[str] = []
    """Fields of the chat request that this upstream, asked before, did not take as they were."""
    left_out: list[str] = []
    """What is not in the folder, and why."""
    notices: list[Notice] = []
    upstream: Answered | None = None
    dialect: str = ""
    """Empty where the request was refused before it was known where it goes."""
    dialect_fields: dict[str, Any] = {}
    """Facts that differ from those that the dialect has for the model."""
    options: dict[str, Any] = {}
    target: dict[str, Any] = {}

    @property
    def passed_through(self) -> bool:
        """Whether the client spoke chat itself, so that nothing was translated."""
        return self.path.endswith("/chat/completions")

    @property
    def client_left(self) -> bool:
        return self.outcome.startswith("client left")


class Folder:
    """A folder as it is read. Files that are not there are None."""

    def __init__(self, path: Path) -> None:
        """Raises NotKept."""
        self.path = path
        text = self.content(EXCHANGE)
        if text is None:
            raise NotKept(f"there is no {EXCHANGE} in it")
        try:
            self.kept = msgspec.toml.decode(text, type=Kept)
        except msgspec.DecodeError as error:
            raise NotKept(f"{EXCHANGE}: {error}") from None

    def content(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NotKept(f"{name} cannot be read: {error.strerror}") from None

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
            return None if text is None else msgspec.json.decode(text, type=list[Raw])
        except msgspec.DecodeError as error:
            raise NotKept(f"{EARLIER}: {error}") from None

    @property
    def body(self) -> bytes | None:
        """What came of an answer of the upstream; None where it refused, or did not answer."""
        for name in ("upstream.sse", "upstream.json"):
            if (body := self.content(name)) is not None:
                return body
        return None

    @property
    def refusal(self) -> bytes | None:
        """The body of the upstream's refusal."""
        text = self.content("upstream.http")
        return None if text is None else text.partition(b"\n\n")[2]

    @property
    def dialect(self) -> Dialect:
        """The facts under which the last attempt was written and its answer read."""
        try:
            return dialect_with(self.kept, self.kept.dialect_fields)
        except (KeyError, msgspec.ValidationError) as error:
            raise NotKept(f"{EXCHANGE}: the dialect is not known: {error}") from None

    @property
    def options(self) -> Options:
        return msgspec.convert(self.kept.options, Options)

    @property
    def target(self) -> Target:
        return msgspec.convert(self.kept.target, Target)


def _decoded(name: str, text: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError as error:
        raise NotKept(f"{name} is not JSON: {error}") from None


# --- the facts in force -------------------------------------------------------------------------


def facts_of(dialect: Dialect, model: str) -> dict[str, Any]:
    """Where these facts differ from those that the dialect of this name has for the model."""
    return own_facts(dialect, DIALECTS[dialect.name].for_model(model))


def dialect_with(kept: Kept, fields: Mapping[str, Any]) -> Dialect:
    """The dialect, with fields as TOML has them; raises KeyError and ValidationError."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(Dialect)}
    facts = {
        name: None  # which TOML does not have
        if value is False and kinds[name] is not bool
        else msgspec.convert(value, kinds[name])
        for name, value in fields.items()
    }
    model = kept.target.get("model") or kept.model
    return msgspec.structs.replace(
        DIALECTS[kept.dialect or "base"].for_model(model), models=(), **facts
    )


# --- as text ------------------------------------------------------------------------------------


def exchange_toml(kept: Kept) -> bytes:
    """The text of `exchange.toml`."""
    return "".join(f"{line}\n" for line in _lines(kept)).encode()


def _lines(kept: Kept) -> Iterator[str]:
    yield "# One exchange. `translator replay` and `translator fixture` read this folder."
    fields: dict[str, Any] = msgspec.to_builtins(kept)
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
    """The file that an answer's body belongs into: a stream, or one body."""
    whole = body.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"[", b"<")
    return "upstream.json" if whole else "upstream.sse"
