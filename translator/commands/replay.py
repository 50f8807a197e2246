"""`translator replay`: prints the Responses events for an upstream's response body.

A captured exchange is replayed as a whole, and compared with the capture.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

import translator
from translator.captures.body_kind import why_no_answer
from translator.captures.folder import EXCHANGE, Capture, CaptureError, Manifest
from translator.captures.replay import compare, replay

from .common import Commands, UsageError, one_line, read, translation, write
from .routes import add_route, routed


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "replay",
        help="print the Responses events for an upstream's response body",
        description="Reads an upstream's response body, a stream or one JSON object, and prints "
        "the Responses events that a client would receive. Ids and times are the same in every "
        "run. A folder recorded by serve --trace is replayed as a whole, and its chat request and "
        "its events are compared with the current output. Exit code 1: they differ.",
    )
    parser.add_argument(
        "body",
        nargs="?",
        default="-",
        metavar="FILE|FOLDER",
        help="the response body, or a captured exchange (default: -, standard input)",
    )
    add_route(parser)
    parser.add_argument(
        "--request",
        metavar="FILE",
        help="the Responses request in JSON; its tools decide how calls are translated "
        "(default: a request without tools)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON event per line (default: server-sent events; for a folder, only the "
        "differences)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.body != "-" and Path(options.body).is_dir():
        for name in ("request", "dialect", "config", "model"):
            if getattr(options, name) is not None:
                raise UsageError(f"replay FOLDER takes no --{name}: it is in the folder")
        return _exchange(Path(options.body), as_json=options.json)
    request = b'{"model":"replay","input":"replay","stream":true}'
    if options.request is not None:
        request = read(options.request)
    elif options.config is not None and options.model is None:
        raise UsageError("replay --config needs --model NAME, or --request FILE, which names it")
    body = read(options.body)
    try:
        body_read = translation(*routed(options, request))
    except translator.InvalidRequest as error:
        where = f"{options.request}: " if options.request is not None else ""
        print(f"{where}{one_line(error)}", file=sys.stderr)
        return 1
    events = [*body_read.receive(body), *body_read.close()]
    if not body_read.produced and (why := why_no_answer(body)):
        name = "standard input" if options.body == "-" else options.body
        raise UsageError(f"{name} is no response body of an upstream: {why}")
    if options.json:
        write(b"".join(translator.encode_json(event) + b"\n" for event in events))
    else:
        write(b"".join(map(translator.encode_sse, events)) + translator.DONE)
    return 0


def _exchange(path: Path, *, as_json: bool) -> int:
    """Replay a captured exchange and print the comparison; with `as_json`, also the events."""
    try:
        capture = Capture(path)
        now = replay(capture)
        verdict = compare(capture, now)
    except CaptureError as error:
        raise UsageError(f"{path} cannot be replayed: {error}{_captures_in(path)}") from None
    out = sys.stderr if as_json else sys.stdout
    if as_json:
        values = now.events or filter(None, [now.response or now.error])
        write(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
    print(summary(capture.manifest), file=out)
    for one in verdict:
        what = "the same" if not one.diff else "not the same"
        print(f"  {one.name:<14} {what}, {one.lines} lines", file=out)
        for line in one.diff:
            print(f"    {line}", file=out)
    return 1 if any(one.diff for one in verdict) else 0


def _captures_in(path: Path) -> str:
    """A hint for a folder that has captured exchanges in it, as `serve --trace` writes it."""
    found = sorted(file.parent.name for file in path.glob(f"*/{EXCHANGE}"))
    if not found:
        return ""
    return f"; name one of the {len(found)} exchanges in it, as in {path / found[-1]}"


def summary(manifest: Manifest) -> str:
    """One line about a captured exchange."""
    where = f" on {manifest.upstream.name}" if manifest.upstream is not None else ""
    dialect = f" (dialect {manifest.dialect})" if manifest.dialect else ""
    return (
        f"{manifest.at} {manifest.method} {manifest.path}: "
        f"{manifest.model or 'no model'}{where}{dialect}, "
        f"{manifest.outcome or manifest.status} in {manifest.seconds:.1f}s"
    )
