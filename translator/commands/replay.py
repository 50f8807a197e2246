"""`translator replay`: an upstream's body in, the Responses events out.

For a captured exchange it reports whether the outcome is still the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

import translator
from translator.captures.folder import Capture, CaptureError, Manifest
from translator.captures.replay import compare, replay

from .terminal import Commands, UsageError, add_dialect, read, sentence, translation, write


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "replay",
        help="print the Responses events that an upstream's body becomes",
        description="Reads the body of an upstream's answer, a stream or one JSON object, and "
        "prints the Responses events that a client would get. Ids and times are the same in "
        "every run. A folder, as serve --trace keeps it, is replayed as a whole: what went "
        "upstream and what the client got is compared with what it would be now. Exit code 1 "
        "says that it differs.",
    )
    parser.add_argument(
        "body",
        nargs="?",
        default="-",
        metavar="FILE|FOLDER",
        help="the upstream's body, or a captured exchange (default: -, standard input)",
    )
    add_dialect(parser)
    parser.add_argument(
        "--request",
        metavar="FILE",
        help="the Responses request that was asked, JSON: its tools decide what calls become "
        "(default: a request without tools)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one event per line as JSON (default: frames of server-sent events; of a folder, "
        "only what differs)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.body != "-" and Path(options.body).is_dir():
        if options.request is not None or options.dialect != "base":
            raise UsageError("replay FOLDER takes neither --request nor --dialect: it holds both")
        return _exchange(Path(options.body), as_json=options.json)
    request = b'{"model":"replay","input":"replay","stream":true}'
    if options.request is not None:
        request = read(options.request)
    body = read(options.body)
    try:
        body_read = translation(request, options.dialect)
    except translator.InvalidRequest as error:
        print(f"{options.request}: {sentence(error)}", file=sys.stderr)
        return 1
    events = [*body_read.receive(body), *body_read.close()]
    if options.json:
        write(b"".join(translator.encode_json(event) + b"\n" for event in events))
    else:
        write(b"".join(map(translator.encode_sse, events)) + translator.DONE)
    return 0


def _exchange(path: Path, *, as_json: bool) -> int:
    """Replay a folder; the events to stdout if they are asked for, else the verdict."""
    try:
        capture = Capture(path)
        now = replay(capture)
        verdict = compare(capture, now)
    except CaptureError as error:
        raise UsageError(f"{path} cannot be replayed: {error}") from None
    out = sys.stderr if as_json else sys.stdout
    if as_json:
        values = now.events or filter(None, [now.response or now.error])
        write(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
    print(in_short(capture.manifest), file=out)
    for one in verdict:
        what = "the same" if not one.diff else "not the same"
        print(f"  {one.name:<14} {what}, {one.lines} lines", file=out)
        for line in one.diff:
            print(f"    {line}", file=out)
    return 1 if any(one.diff for one in verdict) else 0


def in_short(manifest: Manifest) -> str:
    """An exchange in one line."""
    where = f" on {manifest.upstream.name}" if manifest.upstream is not None else ""
    dialect = f" (dialect {manifest.dialect})" if manifest.dialect else ""
    return (
        f"{manifest.at} {manifest.method} {manifest.path}: "
        f"{manifest.model or 'no model'}{where}{dialect}, "
        f"{manifest.outcome or manifest.status} in {manifest.seconds:.1f}s"
    )
