"""The service with one optimisation switched off, in its own process and for the benchmark alone.

    python -m bench.variant NAME[,NAME...] serve ...      as `python -m translator serve ...`

The product has no such switches. An optimisation is switched off by changing the code of one
function, or one attribute, before the service starts. Whatever is not found as it is written here
raises Gone: then the row of VARIANTS has to follow the code.
"""

from __future__ import annotations
import __future__

import gc
import importlib
import inspect
import runpy
import sys
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import msgspec

ALL_ON = "all on"
"""The service as it is."""


class Gone(Exception):
    """The code that a variant switches off is not where the variant looks for it."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One optimisation, and the service without it."""

    name: str
    without: str
    """What the service does instead."""

    claim: str
    """The module whose docstring or comment gives the reason for it."""

    switch_off: Callable[[], None]
    beside: str = ALL_ON
    """The variant that it is compared with, where another optimisation would hide this one."""

    pauses: bool = False
    """It is about the pause that a large request makes, too."""


# ---- the seam: names of the service's code ------------------------------------------------------


def found(path: str) -> tuple[Any, str]:
    """The owner of an attribute, and its name: `module:Class.attribute`; raises Gone."""
    module, _, names = path.partition(":")
    try:
        owner: Any = importlib.import_module(f"translator.{module}")
        *owners, name = names.split(".")
        for one in owners:
            owner = getattr(owner, one)
        getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise Gone(f"bench/variant.py names translator.{path}, which is gone: {error}") from None
    return owner, name


def replaced(path: str, value: object) -> Callable[[], None]:
    """Gives an attribute another value."""

    def switch_off() -> None:
        owner, name = found(path)
        setattr(owner, name, value)

    return switch_off


def rewritten(path: str, *edits: tuple[str, str]) -> Callable[[], None]:
    """Changes lines of a function; each text to be replaced must stand in it exactly once.

    The function stays the same object and gets other code, which every import of it sees.
    """

    def switch_off() -> None:
        owner, name = found(path)
        function: FunctionType = inspect.getattr_static(owner, name)
        source = _sources.get(function) or textwrap.dedent(inspect.getsource(function))
        for old, new in edits:
            if source.count(old) != 1:
                raise Gone(f"bench/variant.py looks for {old!r} in translator.{path}, once")
            source = source.replace(old, new)
        _sources[function] = source
        function.__code__ = _compiled(source, function).__code__

    return switch_off


_sources: dict[FunctionType, str] = {}
"""Those of functions that have been changed: two variants may change the same one."""


def _compiled(source: str, function: FunctionType) -> FunctionType:
    """The function that a source defines, with the free variables of the given one."""
    free = function.__code__.co_freevars
    lines = [f"{name} = None" for name in free] + [source, f"return {function.__name__}"]
    outer = "def outer():\n" + textwrap.indent("\n".join(lines), "    ")
    flags = __future__.annotations.compiler_flag
    namespace: dict[str, Any] = {}
    exec(compile(outer, function.__code__.co_filename, "exec", flags, True), namespace)
    made: FunctionType = namespace["outer"]()
    if made.__code__.co_freevars != free:
        raise Gone(f"{function.__qualname__} would need other free variables: {free}")
    return made


def _without_direct_writer() -> None:
    """Requests without the extension, so that all of an answer passes ASGI's `send`."""
    owner, name = found("service.server.http1:Http1.on_headers_complete")
    delattr(owner, name)


def _with_a_timer_for_each_wait() -> None:
    owner, _ = found("service.base.reusable_timeout:ReusableTimeout.__exit__")
    usual_exit = owner.__exit__

    def leave(self: Any, *error: Any) -> None:
        self._stop_timer()  # so that the next wait sets it again
        usual_exit(self, *error)

    owner.__exit__ = leave


def _with_transport_of_httpx() -> None:
    import httpx

    owner, name = found("service.upstreams.client:_transport")
    usual = getattr(owner, name)

    def transport(server: Any, injected: httpx.AsyncBaseTransport | None, **options: Any) -> object:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=owner.UPSTREAM_KEEPALIVE_S)
        return usual(server, injected or httpx.AsyncHTTPTransport(limits=limits), **options)

    setattr(owner, name, transport)


def _with_resume_of_aiohttp() -> None:
    owner, name = found("service.upstreams.connection:Connection.resume_reading")
    delattr(owner, name)


def _with_chunk_boundaries() -> None:
    owner, name = found("service.upstreams.connection:ReceiveBuffer.begin_http_chunk_receiving")
    delattr(owner, name)
    delattr(owner, "end_http_chunk_receiving")


def _without_freeze() -> None:
    gc.freeze = lambda: None


_UPSTREAMS = "translator/service/upstreams"
_CONNECTION = f"{_UPSTREAMS}/connection.py"

VARIANTS = (
    Variant(
        name="chunk sink",
        without="a task reads each chunk from aiohttp's StreamReader",
        claim=_CONNECTION,
        switch_off=rewritten(
            "service.upstreams.body:ConnectionBody.read",
            ("if sink is not None and self._connection is not None:", "if False:"),
        ),
    ),
    Variant(
        name="whole chunks",
        without="aiohttp parses each read, even if it is one whole chunk",
        claim=f"{_UPSTREAMS}/framing.py",
        switch_off=rewritten(
            "service.upstreams.connection:Connection.data_received",
            ("if pump is not None and self._between and pump.take(data):", "if False:"),
        ),
    ),
    Variant(
        name="no chunk boundaries",
        without="aiohttp's StreamReader notes where each chunk ends",
        claim=_CONNECTION,
        beside="whole chunks",  # which need to know them
        switch_off=_with_chunk_boundaries,
    ),
    Variant(
        name="resuming only what was paused",
        without="aiohttp resumes reading after each read",
        claim=_CONNECTION,
        beside="chunk sink",
        switch_off=_with_resume_of_aiohttp,
    ),
    Variant(
        name="reader's own timeout",
        without="aiohttp sets its read timer anew with each read",
        claim=_CONNECTION,
        switch_off=rewritten(
            "service.upstreams.connection:Connection.begin_body",
            ("self.read_timeout = None", "pass"),
        ),
    ),
    Variant(
        name="aiohttp",
        without="httpx's own transport, and so no chunk sink",
        claim=f"{_UPSTREAMS}/transport.py",
        switch_off=_with_transport_of_httpx,
    ),
    Variant(
        name="reusable timeout",
        without="a timer for each wait",
        claim="translator/service/base/reusable_timeout.py",
        beside="chunk sink",  # with it, no task waits for a chunk
        switch_off=_with_a_timer_for_each_wait,
    ),
    Variant(
        name="direct writer",
        without="chunks pass ASGI's `send`, and a task waits in `receive`; so no chunk sink",
        claim="translator/service/base/sinks.py",
        beside="chunk sink",
        switch_off=_without_direct_writer,
    ),
    Variant(
        name="text run",
        without="decoder, reader, writer and encoder hand on each chunk that only adds text",
        claim="translator/text_run.py",
        switch_off=replaced("translation:Translation.text_run", lambda *_: None),
    ),
    Variant(
        name="text run of whole chunks",
        without="HTTP's chunked coding is taken off before a run, and put on behind it",
        claim="translator/text_run.py",
        switch_off=replaced("service.turns.sink:TranslatingSink.push_framed", lambda *_: None),
    ),
    Variant(
        name="fast chunk types",
        without="each chunk is decoded with all of its fields",
        claim="translator/reader/fast_chunks.py",
        beside="text run",
        switch_off=replaced("reader.from_chat:ChatReader._fast_reader", lambda *_: None),
    ),
    Variant(
        name="append to the open item",
        without="each delta passes the state machine",
        claim="translator/writer/stream.py",
        beside="text run",
        switch_off=replaced("writer.stream:ResponseStream._choose_fast_path", lambda *_: None),
    ),
    Variant(
        name="single frame step",
        without="a read of one frame is split like one of many",
        claim="translator/reader/sse.py",
        beside="text run",
        switch_off=rewritten(
            "reader.sse:Decoder.feed",
            (
                """\
        if data.find(_LF) == len(data) - 2 and data[-1] == _LF and 8 < len(data) <= self._max:
            return [data[6:-2]]  # one frame of one line, as nearly all reads are
""",
                "",
            ),
        ),
    ),
    Variant(
        name="single event encoding",
        without="`encode_all` joins one event like many",
        claim="translator/writer/sse.py",
        beside="text run",
        switch_off=rewritten(
            "writer.sse:encode_all",
            ("if len(events) == 1:", "if False:"),
        ),
    ),
    Variant(
        name="GC thresholds",
        without="Python's own thresholds",
        claim="translator/service/server/run.py",
        switch_off=replaced("service.server.run:GC_THRESHOLDS", gc.get_threshold()),
        pauses=True,
    ),
    Variant(
        name="gc.freeze",
        without="the collector visits what lives as long as the process",
        claim="translator/service/server/run.py",
        switch_off=_without_freeze,
        pauses=True,
    ),
)


def variant(name: str) -> Variant:
    """Raises Gone for a name that no variant has."""
    for one in VARIANTS:
        if one.name == name:
            return one
    raise Gone(f"no variant is called {name!r}: {', '.join(one.name for one in VARIANTS)}")


def switch_off(names: str) -> None:
    """Switch off each of the variants, in a comma-separated list of names."""
    for name in names.split(","):
        if name != ALL_ON:
            variant(name).switch_off()


def main() -> None:
    _, names, *words = sys.argv
    try:
        switch_off(names)
    except Gone as reason:
        sys.exit(str(reason))
    sys.argv = ["translator", *words]
    runpy.run_module("translator", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
