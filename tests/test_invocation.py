"""Printed commands work where they are printed: the program's own name, and what installs a package."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from translator.program import invocation
from translator.program.invocation import install_hint, program, set_variable


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with a Python and the program, in a folder below the current one."""
    scripts = tmp_path / "env" / "bin"
    scripts.mkdir(parents=True)
    for name in ("python3", "translator"):
        (scripts / name).write_text("#!/bin/sh\n")
        (scripts / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(scripts / "python3"))
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setenv("PATH", "/nowhere")
    return scripts


def test_off_the_path_it_is_the_script_from_here(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program() == "env/bin/translator"
    monkeypatch.chdir(installed)
    assert program() == "./translator"
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert program() == str(installed / "translator")


def test_on_the_path_it_is_its_name(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(installed))
    assert program() == "translator"


def test_a_link_on_the_path_counts(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `uv tool` and pipx make them."""
    linked = tmp_path / "local"
    linked.mkdir()
    (linked / "translator").symlink_to(installed / "translator")
    monkeypatch.setenv("PATH", str(linked))
    assert program() == "translator"


def test_without_a_folder_or_an_interpreter_there_is_still_a_name(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert program() == str(installed / "translator")
    monkeypatch.setattr(sys, "executable", "")
    assert program() == "translator"
    assert install_hint("service").startswith("python3 -m pip install ")


def test_another_installation_on_the_path_is_not_meant(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "translator").write_text("#!/bin/sh\n")
    (other / "translator").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert program() == "env/bin/translator"


def test_without_a_script_it_is_the_module(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "translator").unlink()
    assert program() == "env/bin/python3 -m translator"
    monkeypatch.setenv("PATH", str(installed))
    assert program() == "python3 -m translator"


def test_a_path_with_a_space_is_quoted(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "my env"
    (tmp_path / "env").rename(spaced)
    monkeypatch.setattr(sys, "executable", str(spaced / "bin" / "python3"))
    assert shlex.split(program()) == ["my env/bin/translator"]
    monkeypatch.setattr(invocation, "WINDOWS", True)
    (spaced / "bin" / "translator").rename(spaced / "bin" / "translator.exe")
    assert program() == '"my env/bin/translator.exe"'


def test_a_copy_on_the_path_counts_on_windows(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `uv tool` and pipx copy the program instead of linking it; it knows its own path."""
    monkeypatch.setattr(invocation, "WINDOWS", True)
    copy = tmp_path / "local" / "translator.exe"
    copy.parent.mkdir()
    copy.write_text("")
    monkeypatch.setattr("shutil.which", lambda name: str(copy) if name == "translator" else None)
    monkeypatch.setattr(sys, "argv", [str(copy)])
    assert program() == "translator"


# --- what installs a package ----------------------------------------------------------------------


def from_where(monkeypatch: pytest.MonkeyPatch, origin: object) -> None:
    """Has the installation remember where it came from, as PEP 610 wants it."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if origin is None else json.dumps(origin)

    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Distribution())


@pytest.mark.parametrize(
    ("marker", "command"),
    [
        ("uv-receipt.toml", "uv tool install --force"),
        ("pipx_metadata.json", "pipx install --force"),
        (None, "env/bin/python3 -m pip install"),
    ],
)
def test_the_tool_that_installed_it_is_named(
    installed: Path, monkeypatch: pytest.MonkeyPatch, marker: str | None, command: str
) -> None:
    from_where(monkeypatch, None)
    if marker:
        (installed.parent / marker).write_text("")
    assert install_hint("service") == f"{command} 'translator[service]'"


def test_an_environment_of_uv_has_no_pip(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_where(monkeypatch, None)
    monkeypatch.setattr(invocation, "find_spec", lambda _: None)
    expected = "uv pip install --python env/bin/python3 'translator[service]'"
    assert install_hint("service") == expected


@pytest.mark.parametrize(
    ("managed", "command"), [(True, "pipx install"), (False, "env/bin/python3 -m pip install")]
)
def test_no_pip_where_the_system_manages_python(
    installed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    managed: bool,
    command: str,
) -> None:
    """PEP 668: `pip install` would fail there."""
    from_where(monkeypatch, None)
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    if managed:
        (tmp_path / "EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
    assert install_hint("otel") == f"{command} 'translator[otel]'"


def test_it_is_installed_from_where_it_came(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder or a wheel that is still there, a URL, a repository; else its name."""
    (tmp_path / "a b").mkdir()
    vcs = {"vcs": "git", "commit_id": "abc"}
    for origin, expected in (
        ({"url": (tmp_path / "a b").as_uri(), "dir_info": {}}, "./a b[service]"),
        ({"url": tmp_path.as_uri(), "dir_info": {}}, ".[service]"),
        ({"url": "file:///gone/translator.whl"}, "translator[service]"),
        ({"url": "https://h.test/t.whl"}, "translator[service] @ https://h.test/t.whl"),
        (
            {"url": "https://h.test/t", "vcs_info": vcs},
            "translator[service] @ git+https://h.test/t@abc",
        ),
        ({}, "translator[service]"),
    ):
        from_where(monkeypatch, origin)
        assert shlex.split(install_hint("service"))[-1] == expected


def test_a_variable_is_set_in_the_shell_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_variable("KEY") == "export KEY=..."
    monkeypatch.setattr(invocation, "WINDOWS", True)
    assert set_variable("KEY") == '$env:KEY = "..."'


def test_a_mistake_names_a_help_that_can_be_called(tmp_path: Path) -> None:
    """In a shell that does not find `translator`."""
    done = subprocess.run(
        [sys.executable, "-m", "translator", "serve", "--port", "x"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    [command] = [done.stderr.rpartition("(see ")[2].partition(")")[0]]
    shown = subprocess.run(
        shlex.split(command), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.startswith("usage: translator serve ")
