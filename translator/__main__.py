"""The command line. What it decides: which words mean what, and what a wrong one costs.

    translator serve     the service, in front of one upstream or a table of models
    translator convert   a Responses request in, the chat request out
    translator replay    an upstream's body in, the Responses events out
    translator dialects  what is known of each kind of upstream
    translator demo      a streamed request through all of it, without key or network

A wrong option or an unreadable file is one sentence on stderr and exit code 2. A request that the
Responses API does not allow is its error sentence and exit code 1. `convert`, `replay` and
`dialects` need no more than the core.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

import translator
from translator import dialect_table

PROGRAM = "translator"
REASONING_EVENTS = ("summary", "text", "both", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")
SERVICE_PACKAGES = frozenset({"httpx", "starlette", "uvicorn"})
PLAIN_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""

REPLAY_TIME = 1_700_000_000
"""When a replayed response says that it was made: its output must not change from run to run."""


class UsageError(Exception):
    """The command line cannot be followed; the text is the sentence to print."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose mistakes are sentences, without the usage in front of them."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] == ["demo"]:
            return _demo(words[1:])  # its options are its own
        options = _parser().parse_args(words)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except UsageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Makes models that speak Chat Completions answer the Responses API.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="answer the Responses API over HTTP",
        description="Answers the Responses API over HTTP, in front of one upstream (--upstream) "
        "or of the table of models in a file (--config).",
    )
    add = serve.add_argument
    add(
        "--upstream",
        metavar="URL",
        help="base URL of the upstream, up to and without /chat/completions, as in "
        "https://api.fireworks.ai/inference/v1; any model goes to it",
    )
    add(
        "--dialect",
        metavar="NAME",
        help="what the upstream speaks (default: auto, which is known from its host, else base): "
        + ", ".join(translator.DIALECTS),
    )
    add("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    add(
        "--port",
        type=_port,
        metavar="NUMBER",
        help="TCP port to listen on, 0 for a free one (default: 8080)",
    )
    add(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the upstream's key (default: none, and the client's "
        "own Authorization is passed on)",
    )
    add(
        "--config",
        metavar="FILE",
        help="settings in TOML, in place of --upstream, --dialect and --api-key-env "
        "(default: none)",
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        default="info",
        help="least important lines to log; at info, one per request (default: info)",
    )
    add(
        "--reasoning-events",
        choices=REASONING_EVENTS,
        help="which events show the model's reasoning (default: summary, the one that clients "
        "of OpenAI know)",
    )
    serve.set_defaults(run=_serve)

    convert = commands.add_parser(
        "convert",
        help="print the chat request that a Responses request becomes",
        description="Reads a Responses request and prints the chat request that would be sent "
        "upstream. What is lost on the way is printed on stderr, one notice per line.",
    )
    convert.add_argument(
        "request",
        nargs="?",
        default="-",
        metavar="FILE",
        help="the request, JSON (default: -, standard input)",
    )
    _add_dialect(convert)
    convert.set_defaults(run=_convert)

    replay = commands.add_parser(
        "replay",
        help="print the Responses events that an upstream's body becomes",
        description="Reads the body of an upstream's answer, a stream or one JSON object, and "
        "prints the Responses events that a client would get. Ids and times are the same in "
        "every run.",
    )
    replay.add_argument(
        "body",
        nargs="?",
        default="-",
        metavar="FILE",
        help="the upstream's body (default: -, standard input)",
    )
    _add_dialect(replay)
    replay.add_argument(
        "--request",
        metavar="FILE",
        help="the Responses request that was asked, JSON: its tools decide what calls become "
        "(default: a request without tools)",
    )
    replay.add_argument(
        "--json",
        action="store_true",
        help="one event per line as JSON (default: frames of server-sent events)",
    )
    replay.set_defaults(run=_replay)

    dialects = commands.add_parser(
        "dialects",
        help="print what is known of each kind of upstream",
        description="Prints the known dialects and the facts in which each differs from base, in "
        "TOML: a line can be copied into [upstreams.NAME.facts] of a settings file.",
    )
    dialects.add_argument(
        "dialect",
        nargs="?",
        metavar="NAME",
        type=_dialect,
        help="print all facts of this one (default: the differences of all)",
    )
    form = dialects.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="all facts as JSON (default: for people to read)"
    )
    form.add_argument(
        "--markdown", action="store_true", help="the table of the README (default: no)"
    )
    dialects.set_defaults(run=_dialects)

    commands.add_parser(
        "demo",
        help="show a streamed request on both sides of the wire; needs no key and no network",
    )
    return parser


def _add_dialect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dialect",
        metavar="NAME",
        default="base",
        type=_dialect,
        help="what the upstream speaks (default: base): " + ", ".join(translator.DIALECTS),
    )


def _dialect(name: str) -> str:
    if name not in translator.DIALECTS:
        known = ", ".join(translator.DIALECTS)
        raise argparse.ArgumentTypeError(f'there is no dialect "{name}"; known: {known}')
    return name


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 0 to 65535")
    return int(text)


def _serve(options: argparse.Namespace) -> int:
    try:
        from .service.run import run
        from .service.settings import Settings, SettingsError, override, read_file, read_options
    except ModuleNotFoundError as error:
        raise _missing_package("serve", error) from None
    server = {
        name: value
        for name in ("host", "port", "reasoning_events")
        if (value := getattr(options, name)) is not None
    }
    settings: Settings
    try:
        if options.config is not None:
            for name in ("upstream", "dialect", "api_key_env"):
                if getattr(options, name) is not None:
                    raise UsageError(f"--{name.replace('_', '-')} belongs in the --config file")
            settings = override(read_file(options.config, os.environ), server)
        elif options.upstream is not None:
            settings = read_options(
                upstream=options.upstream,
                dialect=options.dialect or "auto",
                api_key_env=options.api_key_env,
                server=server,
                environ=os.environ,
            )
        else:
            raise UsageError("serve needs --upstream URL or --config FILE")
        return run(settings, log_level=options.log_level)
    except SettingsError as error:
        if len(error.problems) == 1:
            raise UsageError(str(error)) from None
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        raise UsageError(f"{len(error.problems)} mistakes in the settings:{lines}") from None


def _convert(options: argparse.Namespace) -> int:
    try:
        translation = _translation(_read(options.request), options.dialect)
    except translator.InvalidRequest as error:
        where = f"{error.param}: " if error.param else ""
        print(f"{where}{error.message}", file=sys.stderr)
        return 1
    _write(msgspec.json.format(translation.chat_body, indent=2) + b"\n")
    for notice in translation.notices:
        print(f"notice: {notice.path}: {notice.message} [{notice.code}]", file=sys.stderr)
    return 0


def _replay(options: argparse.Namespace) -> int:
    request = b'{"model":"replay","input":"replay","stream":true}'
    if options.request is not None:
        request = _read(options.request)
    body = _read(options.body)
    try:
        translation = _translation(request, options.dialect)
    except translator.InvalidRequest as error:
        where = f"{error.param}: " if error.param else ""
        print(f"{options.request}: {where}{error.message}", file=sys.stderr)
        return 1
    events = [*translation.receive(body), *translation.close()]
    if options.json:
        _write(b"".join(translator.encode_json(event) + b"\n" for event in events))
    else:
        _write(b"".join(map(translator.encode_sse, events)) + translator.DONE)
    return 0


def _dialects(options: argparse.Namespace) -> int:
    known = translator.DIALECTS
    one = known[options.dialect] if options.dialect is not None else None
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    if options.json:
        values = [dialect_table.as_value(dialect) for dialect in ([one] if one else known.values())]
        encoded = msgspec.json.encode(values[0] if one else values)
        _write(msgspec.json.format(encoded, indent=2) + b"\n")
    elif options.markdown:
        if one is not None:
            raise UsageError("dialects --markdown is a table of all, and takes no NAME")
        _write(dialect_table.markdown().encode())
    elif one is not None:
        _write(dialect_table.details(one, width).encode())
    else:
        _write(dialect_table.listing(width).encode())
    return 0


def _demo(words: list[str]) -> int:
    try:
        from .service.demo import run
    except ModuleNotFoundError as error:
        raise _missing_package("demo", error) from None
    return run(words)


def _missing_package(command: str, error: ModuleNotFoundError) -> Exception:
    package = (error.name or "").partition(".")[0]
    if package not in SERVICE_PACKAGES:
        return error
    return UsageError(
        f"{command} needs {package}: install it with pip install 'translator[service]'"
    )


def _translation(request: bytes, dialect: str) -> translator.Translation:
    """A translation whose ids are counted and whose time stands still."""
    count = itertools.count(1)
    return translator.Translation(
        request,
        dialect=dialect,
        response_id="resp_1",
        created_at=REPLAY_TIME,
        new_id=lambda prefix: f"{prefix}{next(count)}",
        now=lambda: REPLAY_TIME,
    )


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _write(output: bytes) -> None:
    """Bytes as they are: a terminal's encoding must not touch JSON."""
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    out.write(output)
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
