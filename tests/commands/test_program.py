"""The program itself: its version and its help."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version

import pytest

import translator
from tests.test_packaging import without_service
from translator.__main__ import COMMANDS, main


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_one_line_without_the_service(option: str) -> None:
    done = without_service(option)
    assert (done.returncode, done.stderr) == (0, b"")
    [line] = done.stdout.decode().splitlines()
    assert line.startswith(f"translator {translator.__version__} (")
    assert f" {platform.python_version()}, " in line
    assert platform.machine() in line
    assert version("translator") == translator.__version__


def test_without_a_command_the_help_is_printed() -> None:
    done = without_service()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == without_service("--help").stdout
    listed = re.findall(r"^    ([a-z]+) ", done.stdout.decode(), re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: translator {command} ")
