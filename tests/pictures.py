"""Draws the pictures of docs/: recordings of a terminal as animated SVG.

    python -m tests.pictures           write docs/demo.svg and docs/watch.svg
    python -m tests.pictures --check   exit code 1 if a file is not what would be written

`docs/demo.svg` is `translator demo` as it runs, `docs/watch.svg` the view of `serve --watch` on
requests of which the figures are given here. The output goes through a terminal emulator (pyte);
its pace is even, and nothing depends on the machine, so the same code draws the same bytes.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import pyte
from msgspec import Struct
from pyte.screens import Char

from translator.demo import conversation
from translator.demo.view import View
from translator.service.live.progress import Phase, Progress
from translator.service.live.terminal import LiveView

DOCS = Path(__file__).resolve().parents[1] / "docs"
COMMAND = "python -m tests.pictures"

CELL_WIDTH, LINE_HEIGHT, PADDING = 8.4, 18, 14
HOLD_S = 4.0
"""How long the last frame stays before the recording begins again."""

COLOURS = {
    "default": "#d6deeb",
    "black": "#d6deeb",
    "magenta": "#c792ea",
    "green": "#7fdb8a",
    "brown": "#ecc48d",  # yellow
    "cyan": "#7fdbca",
    "red": "#ff6b6b",
    "brightblack": "#7d8794",
}

Line = Sequence[Char]


class Frame(Struct, frozen=True):
    """What is seen from `at` on, in seconds: the lines of the strip from `first` on."""

    at: float
    first: int


# --- recordings -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal of that size that remembers its screen."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self._screen = pyte.Screen(columns, lines)
        self._screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self._screen)

    def write(self, text: str, /) -> int:
        self._stream.feed(text.replace("\x1b[2m", "\x1b[90m"))  # pyte knows no faint text
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        self.write("".join(lines))

    def rows(self) -> list[Line]:
        screen = self._screen
        return [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]


def text_of(line: Line) -> str:
    return "".join(char.data for char in line)


def demo(pause_s: float = conversation.PAUSE_S) -> str:
    """`translator demo`: all its lines, scrolling through a window."""
    columns, height = 118, 30
    out = Terminal(columns, 200)
    conversation.PAUSE_S, conversation.TIMEOUT_S = pause_s, 150.0
    conversation.program = lambda: ".venv/bin/translator"  # as `make demo` prints it
    asyncio.run(conversation._play(View(out, width=columns, colour=True)))
    strip = out.rows()
    while not text_of(strip[-1]).strip():
        del strip[-1]
    frames = [Frame(0.0, 0)]
    at = 3.0
    for first in range(1, len(strip) - height + 1):
        frames.append(Frame(at, first))
        at += 0.2 if text_of(strip[first + height - 1]).strip() else 0.5
    return svg(strip, frames, columns, height, still=frames[14], title="translator demo")


class Phases(Struct, frozen=True):
    """One request of the live view: when it comes, and when it enters which phase."""

    id: str
    model: str
    at: float
    phases: Sequence[tuple[float, Phase, str]]
    per_s: float
    notes: str = ""

    def progress(self, now: float) -> Progress | None:
        """As of a time; None before it comes."""
        age = now - self.at
        entered = [phase for phase in self.phases if phase[0] <= age]
        if not entered:
            return None
        since, phase, detail = entered[-1]
        first_s = next((began for began, name, _ in self.phases if name == "thinking"), None)
        ended = phase in ("done", "incomplete", "failed", "left")
        seconds = since if ended else age
        written = seconds - first_s if first_s is not None and seconds > first_s else 0.0
        return Progress(
            id=self.id,
            at=EPOCH + self.at,
            seconds=seconds,
            model=self.model,
            phase=phase,
            detail=detail,
            first_s=first_s if written else None,
            tokens=round(written * self.per_s),
            counted=phase == "done",
            per_s=self.per_s if written > 0.2 else None,
            notes=self.notes,
        )


EPOCH = 1_796_010_525  # 2026-11-30, in the morning
REQUESTS = (
    Phases(
        id="req_b59c7be9a36b",
        model="kimi-k2p6",
        at=0.0,
        phases=(
            (0.0, "waiting", ""),
            (0.5, "thinking", ""),
            (2.5, "answering", ""),
            (4.0, "calling", "shell"),
            (5.0, "done", ""),
        ),
        per_s=61.0,
        notes="1; ignored",
    ),
    Phases(
        id="req_e74d96250c11",
        model="qwen3-32b",
        at=1.0,
        phases=(
            (0.0, "waiting", ""),
            (1.0, "thinking", ""),
            (2.0, "answering", ""),
            (5.5, "left", ""),
        ),
        per_s=67.0,
    ),
    Phases(
        id="req_0a9f31c5d782",
        model="glm-5p1",
        at=2.25,
        phases=(
            (0.0, "waiting", ""),
            (0.75, "thinking", ""),
            (3.0, "calling", "apply_patch"),
            (5.0, "done", ""),
        ),
        per_s=88.0,
    ),
    Phases(
        id="req_77c1b20e94fd",
        model="kimi-k2p6",
        at=5.5,
        phases=(
            (0.0, "waiting", ""),
            (0.5, "thinking", ""),
            (1.5, "answering", ""),
            (3.5, "done", ""),
        ),
        per_s=64.0,
    ),
)
TICK_S = 0.25


class _Never(threading.Event):
    """Never set: the view is drawn here, and not by its thread."""

    def set(self) -> None:
        pass


def watch() -> str:
    """The live view, a frame for each tick."""
    columns, height = 136, 5
    os.environ |= {"COLUMNS": str(columns + 1), "LINES": "24", "TZ": "UTC"}
    time.tzset()
    now = 0.0
    out = Terminal(columns, height)
    view = LiveView(out, live=True, colour=True, clock=lambda: EPOCH + now)
    view._changed = _Never()
    strip: list[Line] = []
    frames: list[Frame] = []
    ended: set[str] = set()
    shown: list[str] = []
    while len(ended) < len(REQUESTS):
        for request in REQUESTS:
            progress = request.progress(now)
            if progress is not None and request.id not in ended:
                view.update(progress)
                if progress.ended:
                    ended.add(request.id)
        view._draw()
        rows = out.rows()
        if (texts := [text_of(row) for row in rows]) != shown:
            frames.append(Frame(now, len(strip)))
            strip += rows
            shown = texts
        now += TICK_S
    still = [frame for frame in frames if frame.at <= 6.25][-1]
    return svg(strip, frames, columns, height, still=still, title="translator serve --watch")


# --- drawing --------------------------------------------------------------------------------------


def svg(
    strip: Sequence[Line],
    frames: Sequence[Frame],
    columns: int,
    height: int,
    *,
    still: Frame,
    title: str,
) -> str:
    """A window on a strip of lines, which moves from frame to frame; `still` where nothing moves."""
    width = round(columns * CELL_WIDTH + 2 * PADDING)
    tall = height * LINE_HEIGHT + 2 * PADDING
    length = frames[-1].at + HOLD_S
    steps = [f"{frame.at / length:.3%}{{{_shift(frame)}}}" for frame in frames]
    rows = "".join(
        f'<text xml:space="preserve" y="{PADDING + (number + 0.75) * LINE_HEIGHT:g}">{spans}</text>\n'
        for number, line in enumerate(strip)
        if (spans := "".join(_spans(line)))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        "<style>\n"
        "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre;"
        f"fill:{COLOURS['default']}}}\n"
        + "".join(f".{name}{{fill:{colour}}}\n" for name, colour in COLOURS.items())
        + ".bold{font-weight:bold}\n"
        f".strip{{{_shift(still)};animation:play {length:g}s step-end infinite}}\n"
        f"@keyframes play{{{''.join(steps)}}}\n"
        "@media(prefers-reduced-motion:reduce){.strip{animation:none}}\n"
        "</style>\n"
        f'<rect width="{width}" height="{tall}" rx="8" fill="#0b1220"/>\n'
        f'<svg y="{PADDING}" width="{width}" height="{height * LINE_HEIGHT}" '
        f'viewBox="0 {PADDING} {width} {height * LINE_HEIGHT}">\n'
        f'<g class="strip">\n{rows}</g>\n</svg>\n</svg>\n'
    )


def _shift(frame: Frame) -> str:
    return f"transform:translateY({-frame.first * LINE_HEIGHT}px)"


def _spans(line: Line) -> Iterator[str]:
    """A line as texts of one style each, every one at its column."""
    column = 0
    for (colour, bold), group in groupby(line, key=lambda char: (char.fg, char.bold)):
        text = "".join(char.data for char in group)
        shown = text.rstrip()
        if shown.strip():
            start = column + len(shown) - len(shown.lstrip())
            shown = shown.strip()
            classes = " ".join([colour] * (colour != "default") + ["bold"] * bold)
            yield (
                f'<tspan x="{PADDING + start * CELL_WIDTH:g}" '
                f'textLength="{len(shown) * CELL_WIDTH:g}"'
                f"{f' class={chr(34)}{classes}{chr(34)}' if classes else ''}>{escape(shown)}</tspan>"
            )
        column += len(text)


def main(words: Sequence[str]) -> int:
    check = "--check" in words
    wrong: list[str] = []
    for name, draw in {"watch.svg": watch, "demo.svg": demo}.items():
        path, made = DOCS / name, draw()
        if not check:
            path.write_text(made, encoding="utf-8")
            continue
        kept = path.read_text("utf-8") if path.exists() else ""
        if kept != made and draw is demo:
            made = demo(pause_s=0.4)  # on a busy machine an event may come after the next chunk
        if kept != made:
            wrong.append(name)
    for name in wrong:
        print(f"docs/{name} is not what {COMMAND} draws: run it, and look", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
