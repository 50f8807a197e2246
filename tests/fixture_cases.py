"""Fixtures: one folder is one exchange, its inputs and the expected outputs.

    request.json      the client's request
    chat.json         the chat request that goes upstream
    upstream.sse      the upstream's answer: a stream,
    upstream.json       one JSON body (or what some upstreams send in its place),
    upstream.http       or an HTTP error: status line, headers, body
    events.jsonl      the events of a streamed answer; its first line stands for the first two
    response.json     the body of an answer that is not streamed
    error.json        the HTTP error: of a refusal, or where nothing of an answer had been sent yet
    source.toml       the fact that the case stands for, and what is expected in a few words

The expectation is stored twice: in full, and as a summary in `source.toml`, written by hand from
the fact and never from the outcome. `fixtures/README.md` explains its notation.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

import translator
from tests.replaying import translation
from translator import Dialect, Event, Options, Response, Target, Translation, TranslatorError
from translator.captures.notation import Summary, summary_of
from translator.common.sealed import unseal
from translator.request.compaction import unseal_summary

ERROR_TYPES = {429: "rate_limit_error", 503: "service_unavailable_error"}
"""Types of errors by HTTP status; of others "server_error" from 500 on, "invalid_request_error"
below, and "insufficient_quota" where that is the code."""

ROOT = Path(__file__).resolve().parents[1] / "fixtures"
FIRST_RESPONSE: dict[str, Any] = json.loads((ROOT / "first_response.json").read_bytes())
"""The response before anything was answered, to a request that names no field but its model."""


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `source.toml`: the fact behind a case, and a summary of its outcome.

    `plan` numbers the scenarios, if it stands for any. `usage` is input, output, cached and reasoning tokens. `cut` is
    the item that a failure left open. `http`, `code`, `param`, `headers` and `says` belong to an error: its
    status, its code and param (none: null), its headers, a part of its message; `hides` must not be
    found in the message. `dialect_fields`
    replace single facts of the dialect.
    """

    plan: list[int]
    title: str
    fact: str
    dialect: str = "base"
    items: list[str] = []
    cut: str | None = None
    citations: list[str] = []
    sealed: list[str] = []
    status: str | None = None
    usage: tuple[int, int, int, int] | None = None
    http: int | None = None
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = {}
    says: str = ""
    hides: list[str] = []
    notices: list[str] = []
    options: dict[str, Any] = {}
    target: dict[str, Any] = {}
    dialect_fields: dict[str, Any] = {}


class HttpError(Struct, frozen=True):
    """An HTTP error of the upstream."""

    status: int
    headers: dict[str, str]
    body: bytes


class Outcome(Struct):
    """The outputs of a case, as JSON values; None for those that it has not."""

    chat: Any = None
    notices: list[str] = []
    events: list[Any] | None = None
    response: Any = None
    error: Any = None

    def files(self) -> dict[str, Any]:
        """The values by the name of the file that holds them."""
        named = {
            "chat.json": self.chat,
            "events.jsonl": self.events,
            "response.json": self.response,
            "error.json": self.error,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def final(self) -> Any:
        """The final response; None when the answer is an error alone."""
        return self.events[-1]["response"] if self.events else self.response


class Case:
    """One folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.relative_to(ROOT).as_posix()
        self.source = msgspec.toml.decode((folder / "source.toml").read_bytes(), type=Source)

    @functools.cached_property
    def request(self) -> dict[str, Any] | None:
        return self._json("request.json")

    @functools.cached_property
    def body(self) -> bytes | None:
        """The upstream's answer, when it is no HTTP error."""
        for name in ("upstream.sse", "upstream.json"):
            if (self.folder / name).is_file():
                return (self.folder / name).read_bytes()
        return None

    @functools.cached_property
    def http_error(self) -> HttpError | None:
        path = self.folder / "upstream.http"
        if not path.is_file():
            return None
        head, _, body = path.read_bytes().partition(b"\n\n")
        status, *headers = head.decode().splitlines()
        pairs = (line.partition(": ")[::2] for line in headers)
        return HttpError(int(status.split()[1]), dict(pairs), body)

    @property
    def streamed(self) -> bool:
        """Whether the case has an answer and its request wants a stream."""
        return self.body is not None and bool((self.request or {}).get("stream"))

    @property
    def dialect(self) -> Dialect:
        known = translator.DIALECTS[self.source.dialect]
        types = get_type_hints(Dialect)
        fields = {
            name: None  # TOML has no null
            if value is False and types[name] is not bool
            else msgspec.convert(value, types[name])
            for name, value in self.source.dialect_fields.items()
        }
        return msgspec.structs.replace(known, **fields)

    def translation(self) -> Translation:
        assert self.request is not None
        return translation(
            self.request,
            dialect=self.dialect,
            options=msgspec.convert(self.source.options, Options),
            target=msgspec.convert(self.source.target, Target),
        )

    def events(self, chunks: list[bytes]) -> tuple[list[Event], Translation]:
        """The events of the answer, whose body comes in these chunks."""
        t = self.translation()
        events = t.start()
        for chunk in chunks:
            events += t.receive(chunk)
        return events + t.close(), t

    def expected(self) -> dict[str, Any]:
        """The expected outputs, by the name of the file."""
        names = ("chat.json", "response.json", "error.json")
        found = {name: self._json(name) for name in names if (self.folder / name).is_file()}
        lines = self.folder / "events.jsonl"
        if lines.is_file():
            found["events.jsonl"] = expanded(map(json.loads, lines.read_bytes().splitlines()))
        return found

    def _json(self, name: str) -> Any:
        path = self.folder / name
        return json.loads(path.read_bytes()) if path.is_file() else None


def expanded(lines: Iterable[Any]) -> list[Any]:
    """The events of an `events.jsonl`, given its lines.

    The line {"first_response": fields} is `response.created` and `response.in_progress`, both with
    the response in `fixtures/first_response.json` but for these fields.
    """
    events: list[Any] = []
    for line in lines:
        if "first_response" in line:
            assert not events, "only the first line stands for two events"
            assert line["first_response"].keys() <= FIRST_RESPONSE.keys()
            response = FIRST_RESPONSE | line["first_response"]
            for number, kind in enumerate(("response.created", "response.in_progress")):
                events.append({"type": kind, "sequence_number": number, "response": response})
        else:
            events.append(line)
    return events


def run(case: Case) -> Outcome:
    """Run a case through the core."""
    outcome = Outcome()
    if case.request is None:
        outcome.error = _refused(case, b"")
        return outcome
    try:
        t = case.translation()
    except TranslatorError as error:
        outcome.error = error_answer(error)
        return outcome
    outcome.chat = json.loads(t.chat_body)
    outcome.notices = [f"{notice.path} {notice.code}" for notice in t.notices]
    if case.body is None:
        outcome.error = _refused(case, t.chat_body)
        return outcome
    if case.streamed:
        events, t = case.events([case.body])
        outcome.events = [opened(event) for event in events]
        if t.error is not None and not t.produced:
            outcome.error = error_answer(t.error)
        return outcome
    try:
        outcome.response = opened(t.complete(case.body))
    except TranslatorError as error:
        outcome.error = error_answer(error)
    return outcome


def _refused(case: Case, sent: bytes) -> Any:
    """The HTTP error for the upstream's, given the chat request sent; None without one."""
    refusal = case.http_error
    if refusal is None:
        return None
    error = translator.read_upstream_error(
        refusal.status,
        refusal.body,
        retry_after=refusal.headers.get("retry-after"),
        silent_overflow=case.dialect.overflows_silently(len(sent)),
    )
    return error_answer(error)


def disagreements(case: Case, outcome: Outcome) -> list[str]:
    """The differences between an outcome and `source.toml`."""
    source, found = case.source, Summary()
    if outcome.final is not None:
        found = summary_of(outcome.final, outcome.events or [])
    pairs: list[tuple[str, Any, Any]] = [
        (name, getattr(source, name), getattr(found, name))
        for name in ("items", "cut", "citations", "status", "usage")
    ]
    pairs.append(("sealed", [json.loads(blob) for blob in source.sealed], found.sealed))
    answer = outcome.error or {"status": None, "headers": {}, "body": {"error": {}}}
    error = answer["body"]["error"]
    pairs += [
        ("notices", sorted(source.notices), sorted(outcome.notices)),
        ("http", source.http, answer["status"]),
        ("code", source.code, error.get("code")),
        ("param", source.param, error.get("param")),
        ("headers", source.headers, answer["headers"]),
        ("type", _error_type(source), error.get("type")),
    ]
    message = error.get("message", found.message)
    if source.says not in message:
        pairs.append(("says", source.says, message))
    pairs += [("hides", text, message) for text in source.hides if text in message]
    if outcome.final is not None and case.request and "model" in case.request:
        pairs.append(("model", case.request["model"], outcome.final["model"]))
    return [
        f"{name}:\n    expected {expected!r}\n    actual   {actual!r}"
        for name, expected, actual in pairs
        if expected != actual or name == "hides"
    ]


def _error_type(source: Source) -> str | None:
    if source.http is None:
        return None
    if source.code == "insufficient_quota":
        return "insufficient_quota"
    usual = "server_error" if source.http >= 500 else "invalid_request_error"
    return usual if source.code == "upstream_error" else ERROR_TYPES.get(source.http, usual)


def as_json(value: Event | Response) -> Any:
    """An event or a response as the JSON value that a client sees."""
    return json.loads(translator.encode_json(value))


def opened(value: Event | Response) -> Any:
    """The same with sealed content opened, without the empty fields of reasoning.

    The compressed bytes depend on the machine's zlib.
    """
    body = as_json(value)
    for item in [body.get("item", {}), *body.get("response", body).get("output", [])]:
        thought = unseal(item.get("encrypted_content") or "")
        if thought is not None:
            fields = json.loads(msgspec.json.encode(thought))
            item["encrypted_content"] = {name: value for name, value in fields.items() if value}
        if item.get("type") == "compaction":
            item["encrypted_content"] = {"summary": unseal_summary(item["encrypted_content"])}
    return body


def error_answer(error: TranslatorError) -> dict[str, Any]:
    """The HTTP response for an error before the first byte of a stream."""
    return {"status": error.status_hint, "headers": error.headers, "body": error.envelope()}


@functools.cache
def all_cases() -> dict[str, Case]:
    """Every fixture by its name, "<upstream>/<case>"."""
    folders = sorted(path.parent for path in ROOT.glob("*/*/source.toml"))
    return {case.name: case for case in map(Case, folders)}
