"""Other Pythons and allocators are found or left out, and workers' streams are counted."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench import balance, footprint, memory, options, pythons
from bench.__main__ import main
from bench.floor import floor, floors
from bench.targets import Target, Unavailable


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_shim_without_a_version_behind_it_is_no_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the path but does not run gives way to pyenv's own, then to Debian's."""
    program(tmp_path / "bin" / "python3.99", "exit 127")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert pythons.installed_command("3.99") is None
    with pytest.raises(Unavailable, match=r"no release of Debian is known to have Python 3\.99"):
        pythons.interpreter("3.99")
    own = program(tmp_path / "versions" / "3.99.1" / "bin" / "python3.99", "echo 3.99.1")
    assert pythons.installed_command("3.99") == [str(own)]


def test_an_unpacked_python_starts_by_its_own_loader(tmp_path: Path) -> None:
    """With the libraries beside it, of merged folders and of others."""
    with pytest.raises(Unavailable, match="without a loader"):
        pythons.unpacked_command(tmp_path, "3.14")
    loader = program(tmp_path / "lib" / "x" / "ld-linux-x.so.2", "")
    program(tmp_path / "lib" / "x" / "libc.so.6", "")
    program(tmp_path / "usr" / "lib" / "x" / "libz.so.1", "")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "ld-linux-x.so.2").symlink_to("/nowhere/ld-linux-x.so.2")
    command = pythons.unpacked_command(tmp_path, "3.14")
    folders = f"{tmp_path / 'lib' / 'x'}:{tmp_path / 'usr' / 'lib' / 'x'}"
    python = tmp_path / "usr" / "bin" / "python3.14"
    assert command == [str(loader), "--library-path", folders, str(python)]


def test_debian_is_asked_on_the_mirror_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release stands beside the machine's own; other archives have none."""
    listed = (
        "Other http://a/ Packages\nDebian http://b/security/ Packages\nDebian http://c/ Packages\n"
    )
    monkeypatch.setattr(pythons, "_run", lambda *_: listed)
    monkeypatch.setattr(pythons, "KEYRING", Path("/nowhere"))
    assert pythons.source("sid") == "deb http://c/ sid main\n"
    monkeypatch.setattr(pythons, "_run", lambda *_: "Other http://a/ Packages\n")
    with pytest.raises(Unavailable, match="no mirror of Debian"):
        pythons.source("sid")


def test_what_cannot_be_had_leaves_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing command is Unavailable with the end of its errors; the others are measured."""
    with pytest.raises(Unavailable, match=r"fails: .*no such word"):
        pythons._run([sys.executable, "-c", "raise SystemExit('no such word')"])
    with pytest.raises(Unavailable, match="no-such-program fails"):
        pythons._run(["no-such-program"])
    left_out: list[str] = []

    def beside_first(targets: list[object], *, quick: bool, remarks: list[str]) -> list[object]:
        left_out.extend(remarks)
        return targets

    def unavailable(package: str) -> Path:
        raise Unavailable("there is none")

    monkeypatch.setattr(pythons, "beside_first", beside_first)
    [here] = pythons.sections(quick=True, versions=["debian-3.99"])
    assert here.name == f"Python {pythons.HERE}"
    monkeypatch.setattr(options, "beside_first", beside_first)
    monkeypatch.setattr(options, "unpacked", unavailable)
    names = [one.name for one in options.sections(quick=True, only=["jemalloc", "-OO"])]
    assert names == [options.USUAL, "-OO"]
    assert left_out == [
        "Python debian-3.99 is left out: no release of Debian is known to have Python 3.99",
        "jemalloc is left out: there is none",
    ]


def test_instructions_of_pythons_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the Python of this run first, and what cannot be had below."""

    def of_service(_tool: object, _mock: object, target: Target, *, repeats: int) -> object:
        return {"token": 100.0 if target.name == f"Python {pythons.HERE}" else 90.0 + repeats}

    def interpreter(version: str) -> pythons.Interpreter:
        if version == "3.98":
            raise Unavailable("there is none")
        return pythons.Interpreter(version, [])

    monkeypatch.setattr(pythons, "interpreter", interpreter)
    monkeypatch.setattr(pythons, "mock_upstream", lambda **_: nullcontext())
    monkeypatch.setattr(pythons.instructions, "valgrind", lambda: None)
    monkeypatch.setattr(pythons.instructions, "of_service", of_service)
    [report] = pythons.sections(quick=True, versions=["3.99", "3.98"], counted=True)
    assert report.table.splitlines()[-1].startswith("| token | 100 | 91 | 0.910 |")
    assert report.remarks == ["Python 3.98 is left out: there is none"]


def test_the_service_is_started_by_the_other_python() -> None:
    """Its words stand in place of ours, and its packages behind the project."""
    one = pythons.Interpreter("3.99", ["loader", "python3.99"], Path("packages"))
    target = pythons.target(one)
    command = target.command(Path(), 80, 81)
    assert command[:4] == ["loader", "python3.99", "-m", "translator"]
    assert target.environ["PYTHONPATH"].endswith(":packages")


def test_an_option_of_the_process_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, a library that is loaded first, options of Python."""
    monkeypatch.setattr(options, "unpacked", lambda _: tmp_path)
    with pytest.raises(Unavailable, match="x has no library"):
        options.library("x")
    library = program(tmp_path / "usr" / "lib" / "libx.so.2", "")
    option = options.Option("both", {"PYTHONMALLOC": "malloc"}, ["-OO"], "x")
    target = options.target(option)
    assert target.environ == {"PYTHONMALLOC": "malloc", "LD_PRELOAD": str(library)}
    assert target.command(Path(), 80, 81)[:3] == [sys.executable, "-OO", "-m"]


def test_connections_of_a_process_are_counted() -> None:
    """Only those that it accepted on the port, as the system lists them."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            stack.enter_context(listener.accept()[0])
        inodes = balance.sockets(port)
        assert len(inodes) == 3
        assert balance.held_by(os.getpid(), inodes) == 3
        assert balance.held_by(os.getpid(), set()) == 0


def test_the_balance_is_beside_that_of_chance() -> None:
    """Each draw, the busiest worker relative to the mean, and what chance would do."""
    report = balance.report([[110, 90], [104, 96]], streams=200, workers=2)
    assert report.table.splitlines()[2:] == [
        "| 1 | 110 / 90 | 1.10 |",
        "| 2 | 104 / 96 | 1.04 |",
        "| mean |  | 1.07 |",
    ]
    assert "deviate by 7.1 from 100" in report.remarks[0]


def test_memory_of_streams_is_beside_that_of_the_floors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(footprint, "OPEN_STREAMS", 50)
    monkeypatch.setattr(memory, "translator", lambda: replace(floor("relay"), name="translator"))
    monkeypatch.setattr(memory, "compile_ours", str)
    assert main(["memory"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]
    assert [name for name, *_ in cells] == ["translator", *(one.name for one in floors())]
    assert {streams for *_, streams in cells} == {"50"}
    ours, relay, passthrough = (float(each) for _, _, each, _, _ in cells)
    assert max(ours, relay) < passthrough
