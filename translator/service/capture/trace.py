"""Keeps each exchange as a folder, a bug report to replay. `translator.captures` reads it.

While a request is answered, only references are gathered. When it is over, a thread of its own
takes the keys out and writes; what goes wrong there is a warning and no answer's business. A folder
has another name until it is whole, and the oldest ones make room for it.

Beyond a bound nothing more is held, of one exchange or of all: what is too large is left out, and
when exchanges end faster than the disk takes them, some are not kept.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_never, get_args

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

import translator
from translator import Notice, Options, Target, TranslatorError, UpstreamError
from translator.captures import folder as kept
from translator.captures.folder import Answered, Kept
from translator.captures.run import error_answer
from translator.service.base.background import Background
from translator.service.base.version import VERSION
from translator.service.config.settings import Settings, SettingsError
from translator.service.models.table import Route
from translator.service.observe.observer import (
    AttemptFailed,
    AttemptWritten,
    ChunkReceived,
    ErrorSent,
    EventsSent,
    ObservedEvent,
    Observer,
    RequestEnded,
    RequestReceived,
    ResponseSent,
    RetryScheduled,
    Routed,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import Record
from translator.wire.events import Event, OutputItemAdded
from translator.wire.responses import Response

from .redaction import KEPT_HEADERS, Redaction, client_secrets, operator_secrets

log = logging.getLogger(__name__)

MAX_HELD_BYTES = 256 * 1024 * 1024
"""How much is held of all exchanges until it is written, in bytes of bodies."""

MAX_BEHIND = 1000
"""Exchanges that wait for the disk."""

STALE_S = 600.0
"""What is not whole after so long was left by a process that ended badly."""

_FOLDER = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[A-Za-z0-9._-]+")
_UNFINISHED = ".part"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Trace:
    """An `ObserverFactory` that writes each exchange into `trace_folder`."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """Makes the folder where there is none; raises SettingsError where that is not possible."""
        server = settings.server
        assert server.trace_folder is not None
        self._folder = Path(server.trace_folder)
        self._max_bytes = server.max_traced_bytes
        self._max_count = server.max_traced_exchanges
        self._secrets = operator_secrets(settings)
        self._clock = clock
        self._held = 0
        self._lock = threading.Lock()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._folder.glob(f"*{_UNFINISHED}"):
                if _FOLDER.fullmatch(left.name) and time.time() - left.stat().st_mtime > STALE_S:
                    shutil.rmtree(left, ignore_errors=True)
            probe = self._folder / f"{_name_of_time(clock())}-probe{_UNFINISHED}"
            probe.mkdir(mode=0o700)
            probe.rmdir()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SettingsError([f"trace: cannot write in {self._folder}: {reason}"]) from None
        self._writer = Background("trace", self._keep)

    def __call__(self, record: Record) -> Observer:
        return _Gathered(self, record, self._clock(), self._max_bytes)

    def hold(self, size: int) -> bool:
        """Whether so many bytes more may be held; they are, until the exchange is put."""
        with self._lock:
            fits = self._held + size <= MAX_HELD_BYTES
            self._held += size if fits else 0
        return fits

    def put(self, gathered: _Gathered) -> None:
        """Have an exchange written."""
        if self._writer.behind < MAX_BEHIND:
            self._writer.put(gathered)
        else:
            log.warning("trace: %s is not kept: the disk is too slow", gathered.id)
            self._let_go(gathered)

    def close(self) -> None:
        """Write what waits; to be called when nothing more is answered."""
        self._writer.close()

    # --- in a thread ----------------------------------------------------------------------------

    def _keep(self, gathered: _Gathered) -> None:
        try:
            path = self._write(gathered)
            log.info("trace: %s is kept in %s", gathered.id, path)
        except Exception as error:  # a full disk is no reason to stop, nor is a fault of ours
            ours = None if isinstance(error, OSError) else error
            log.warning("trace: %s is not kept: %s", gathered.id, error, exc_info=ours)
        self._let_go(gathered)

    def _let_go(self, gathered: _Gathered) -> None:
        with self._lock:
            self._held -= gathered.size

    def _write(self, gathered: _Gathered) -> Path:
        redaction = Redaction(self._secrets | client_secrets(gathered.headers))
        files = gathered.files(redaction, self._max_bytes)
        self._make_room()
        path = self._free(gathered.name(redaction))
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            unfinished.mkdir(mode=0o700)
            for inner, content in files.items():
                file = unfinished / inner
                if file.parent != unfinished:
                    file.parent.mkdir(mode=0o700, exist_ok=True)
                file.touch(mode=0o600)
                file.write_bytes(content)
            unfinished.rename(path)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return path

    def _free(self, name: str) -> Path:
        """The path for a folder of that name, with a number behind it where it is taken."""
        path, number = self._folder / name, 1
        while path.exists():
            number += 1
            path = self._folder / f"{name}-{number}"
        return path

    def _make_room(self) -> None:
        """Remove the oldest folders, so that one more is not too many."""
        found = sorted(
            path.name
            for path in self._folder.iterdir()
            if _FOLDER.fullmatch(path.name) and not path.name.endswith(_UNFINISHED)
        )
        for name in found[: max(0, len(found) - self._max_count + 1)]:
            shutil.rmtree(self._folder / name, ignore_errors=True)


class _Attempt(Struct):
    """One request to the upstream, and what came of it."""

    body: bytes | None = None
    """The chat request; None where it is not held."""
    translated: bytes | None = None
    """The chat request as it was translated; the body may lack fields of it. None: passed on."""
    dialect: translator.Dialect | None = None
    notices: Sequence[Notice] = ()
    status: int | None = None
    headers: Mapping[str, str] = {}
    received: list[bytes] = []
    overflow: bool = False
    error: TranslatorError | None = None

    @property
    def is_refusal(self) -> bool:
        return self.status is not None and not 200 <= self.status < 300

    def files(self) -> Iterator[tuple[str, bytes]]:
        if self.body is not None:
            yield kept.CHAT, self.body
        if self.status is None or self.overflow:
            return
        body = b"".join(self.received)
        if self.is_refusal:
            yield "upstream.http", kept.http_text(self.status, self.kept_headers, body)
        else:
            yield kept.body_name(body), body

    @property
    def kept_headers(self) -> dict[str, str]:
        found = {name.lower(): value for name, value in self.headers.items()}
        return {name: value for name, value in found.items() if KEPT_HEADERS.fullmatch(name)}


class _Gathered:
    """One exchange, as far as it has come."""

    def __init__(self, trace: Trace, record: Record, began: float, max_bytes: int) -> None:
        self._trace = trace
        self._record = record
        self._began = began
        self._began_at = time.monotonic()
        self._left = max_bytes
        self._asked = False
        self._request: bytes | None = None
        self._earlier: Sequence[Raw] | None = None
        self._route: Route | None = None
        self._coming = _Attempt()
        self._attempts: list[_Attempt] = []
        self._events: list[Event] = []
        self._response: Response | None = None
        self._error: TranslatorError | None = None
        self._upstream_s: float | None = None
        self._output_s: float | None = None
        self._seconds = 0.0
        self.id = record.request_id
        self.headers = record.headers
        self.size = 0  # bytes

    # --- events ---------------------------------------------------------------------------------

    wants: frozenset[type[ObservedEvent]] = frozenset(get_args(ObservedEvent))

    def on(self, event: ObservedEvent) -> None:
        match event:
            case ChunkReceived(chunk):
                self._chunk_received(chunk)
            case EventsSent(events):
                self._events_sent(events)
            case RequestReceived(body):
                self._request_received(body)
            case Routed(route, earlier):
                self._routed(route, earlier)
            case AttemptWritten(translation, notices):
                self._coming.notices = notices
                self._coming.dialect = translation.dialect
                self._coming.translated = translation.chat_body
            case UpstreamCalled(_, body):
                self._upstream_called(body)
            case UpstreamAnswered(status, headers):
                self._attempts[-1].status = status
                self._attempts[-1].headers = headers
                self._upstream_s = self._now()
            case AttemptFailed(error):
                if self._attempts:
                    self._attempts[-1].error = error
            case RetryScheduled(error):
                self._retry_scheduled(error)
            case ResponseSent(response):
                self._response = response
            case ErrorSent(error):
                self._error = error
            case RequestEnded():
                self._seconds = self._now()
                if self._asked:
                    self._trace.put(self)
            case _ as never:
                assert_never(never)

    def _request_received(self, request: bytes) -> None:
        self._asked = True
        if self._hold(len(request)):
            self._request = request

    def _routed(self, route: Route, earlier: Sequence[Raw] | None) -> None:
        self._route = route
        if self._hold(sum(map(len, earlier or ()))):
            self._earlier = earlier

    def _upstream_called(self, body: bytes | None) -> None:
        held = body if self._hold(len(body or b"")) else None
        self._attempts.append(replace(self._coming, body=held, received=[]))

    def _chunk_received(self, chunk: bytes) -> None:
        attempt = self._attempts[-1]
        if self._hold(len(chunk)):
            attempt.received.append(chunk)
        elif not attempt.overflow:
            attempt.overflow = True
            attempt.received.clear()
            self._events.clear()

    def _retry_scheduled(self, error: UpstreamError) -> None:
        last = self._attempts[-1]
        last.error = error
        self._coming = _Attempt(
            translated=last.translated, dialect=last.dialect, notices=last.notices
        )

    def _events_sent(self, events: Sequence[Event]) -> None:
        if self._output_s is None and any(isinstance(one, OutputItemAdded) for one in events):
            self._output_s = self._now()
        if self._left >= 0:
            self._events += events

    def _now(self) -> float:
        return round(time.monotonic() - self._began_at, 3)

    def _hold(self, size: int) -> bool:
        """Whether there is room for so much more; where there is none once, there is none later."""
        self._left -= size
        if self._left >= 0 and not self._trace.hold(size):
            self._left = -1
        if self._left < 0:
            return False
        self.size += size
        return True

    # --- what is written ------------------------------------------------------------------------

    def name(self, redaction: Redaction) -> str:
        """Time, id, model: sorted by name, folders are sorted by time."""
        words = (redaction.text(self.id)[:16], redaction.text(self._record.model)[-40:])
        plain = [_NOT_IN_A_NAME.sub("-", word).strip("-.") for word in words]
        return "-".join(filter(None, [_name_of_time(self._began), *plain]))

    def files(self, redaction: Redaction, limit: int) -> dict[str, bytes]:
        """All files, without secrets; those that do not fit are named in `exchange.toml`."""
        left_out: list[str] = []
        files: dict[str, bytes] = {}
        for name, content in self._bodies(left_out, redaction):
            clean = redaction(content)
            if len(clean) > limit:
                left_out.append(f"{name}: too large")
                continue
            limit -= len(clean)
            files[name] = clean
        files[kept.EXCHANGE] = redaction(kept.exchange_toml(self._kept(left_out)))
        return files

    def _bodies(self, left_out: list[str], redaction: Redaction) -> Iterator[tuple[str, bytes]]:
        if self._request is not None:
            yield kept.REQUEST, self._request
        else:
            left_out.append(f"{kept.REQUEST}: too large")
        if self._earlier is not None:
            yield kept.EARLIER, msgspec.json.encode(self._earlier)
        if self._error is not None:
            yield kept.ERROR, _pretty(error_answer(self._error))
        if self._response is not None:
            yield kept.RESPONSE, _pretty(self._response)
        spelled = _spells_a_secret(self._events, redaction)
        if spelled:
            left_out.append("the answer: the model spelled a key in it")
        elif self._events:
            yield kept.EVENTS, b"".join(translator.encode_json(one) + b"\n" for one in self._events)
        for number, attempt in enumerate(reversed(self._attempts)):
            place = f"attempt_{len(self._attempts) - number}/" if number else ""
            if attempt.body is None:
                left_out.append(f"{place}{kept.CHAT}: too large")
            if attempt.overflow:
                left_out.append(f"{place}the upstream's answer, and what became of it: too large")
            unreadable = attempt.translated is None and "content-encoding" in attempt.headers
            if unreadable:
                left_out.append(f"{place}the upstream's answer: compressed")
            for name, content in attempt.files():
                if name == kept.CHAT or not (unreadable or (spelled and not number)):
                    yield place + name, content

    def _kept(self, left_out: list[str]) -> Kept:
        record, route = self._record, self._route
        last = self._attempts[-1] if self._attempts else self._coming
        if route is None:
            dialect, target, options = None, Target(), Options()
        else:
            dialect, options = last.dialect or route.dialect, route.options
            target = Target(route.upstream_model, route.max_output_tokens, route.vision)
        return Kept(
            translator=VERSION,
            id=record.request_id,
            at=_iso(self._began),
            method=record.method,
            path=record.path,
            client=record.client,
            user_agent=_header(self.headers, b"user-agent"),
            model=record.model,
            status=record.status,
            outcome=record.outcome,
            seconds=self._seconds,
            upstream_s=self._upstream_s,
            output_s=self._output_s,
            attempts=len(self._attempts),
            changed=_changed(last),
            left_out=left_out,
            notices=list(last.notices),
            upstream=self._answered(last) if self._attempts else None,
            dialect=dialect.name if dialect else "",
            dialect_fields=kept.facts_of(dialect, target.model or record.model) if dialect else {},
            options=_differing(options, Options()),
            target=_differing(target, Target()),
        )

    def _answered(self, attempt: _Attempt) -> Answered:
        upstream = self._route.upstream if self._route is not None else None
        error = None if attempt.is_refusal else attempt.error
        return Answered(
            name=upstream.name if upstream is not None else "",
            own_key=upstream is not None and upstream.has_credential,
            status=attempt.status,
            headers=attempt.kept_headers,
            broke=error.message if error is not None else "",
            broke_status=error.status_hint if error is not None else None,
        )


def _changed(attempt: _Attempt) -> list[str]:
    """The fields in which what went upstream differs from the translation."""
    translated, body = attempt.translated, attempt.body
    if translated is None or body is None or translated == body:
        return []
    one, other = (msgspec.json.decode(text, type=dict[str, Any]) for text in (translated, body))
    return [name for name in one | other if one.get(name) != other.get(name)]


def _spells_a_secret(events: Sequence[Event], redaction: Redaction) -> bool:
    """Whether a key is in an answer in pieces, each of which looks innocent."""
    pieces = [getattr(event, "delta", "") for event in events]
    clean = "".join(map(redaction.text, filter(None, pieces)))
    return redaction.text(clean) != clean


def _differing(struct: Struct, usual: Struct) -> dict[str, Any]:
    fields, before = map(msgspec.structs.asdict, (struct, usual))
    return {name: value for name, value in fields.items() if value != before[name]}


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((str(value, "latin-1") for key, value in headers if key == name), "")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def _name_of_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
