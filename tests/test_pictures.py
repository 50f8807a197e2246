"""The pictures of docs/ are what the programs show today."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from .browser import pictures as pages
from .pictures import COMMAND, DOCS, Frame, Terminal, main, svg
from .test_docs import ROOT

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_the_committed_pictures_are_those_that_the_script_draws() -> None:
    done = subprocess.run(
        [sys.executable, *COMMAND.split()[1:], "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_another_picture_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name and the command that draws it anew."""
    from . import pictures

    monkeypatch.setattr(pictures, "watch", lambda: "<svg/>")
    monkeypatch.setattr(pictures, "demo", lambda **_: (DOCS / "demo.svg").read_text("utf-8"))
    assert main(["--check"]) == 1


@pytest.mark.parametrize("name", ["demo.svg", "watch.svg"])
def test_a_picture_is_whole_by_itself(name: str) -> None:
    """Valid XML that loads nothing, runs nothing, and is small."""
    text = (DOCS / name).read_text("utf-8")
    root = ET.fromstring(text)
    assert root.tag == f"{NAMESPACE}svg"
    assert len(text) < 100_000
    assert not re.search(r"<script|href=|url\(|@import|<image|<foreignObject", text)


def test_the_pictures_of_pages_are_of_those_of_today() -> None:
    """By what they are drawn of: a browser draws differently on each machine."""
    assert pages.main(["--check"]) == 0
    for name in pages.PICTURES:
        data = (DOCS / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(data) < pages.MAX_BYTES


def test_other_pages_are_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "digest", lambda: "0" * 64)
    assert pages.main(["--check"]) == 1
    assert "docs/accounts-overview.png is of other pages" in capsys.readouterr().err


def test_a_line_is_drawn_in_its_colours_at_its_columns() -> None:
    terminal = Terminal(20, 2)
    terminal.write("ab  \x1b[1;32mok\x1b[0m\n\x1b[2m<&>\x1b[0m")
    frame = Frame(0.0, 0)
    made = svg(terminal.rows(), [frame, Frame(1.0, 1)], 20, 1, still=frame, title="t")
    spans = list(ET.fromstring(made).iter(f"{NAMESPACE}tspan"))
    assert [span.text for span in spans] == ["ab", "ok", "<&>"]
    assert [span.get("class") for span in spans] == [None, "green bold", "brightblack"]
    assert float(str(spans[1].get("x"))) - float(str(spans[0].get("x"))) == pytest.approx(4 * 8.4)
    assert "20.000%{transform:translateY(-18px)}" in made
