"""A program in the foreground: its exit code, its signals, its terminal."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from translator.launch.foreground import CannotRun, run_in_foreground

if sys.platform == "win32":
    pytest.skip("Windows has no terminals of this kind", allow_module_level=True)

import fcntl
import pty
import termios

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0

LAUNCHER = """
import os, sys
from translator.launch.foreground import run_in_foreground
sys.exit(run_in_foreground(sys.executable, [sys.executable, "-c", sys.argv[1]], os.environ))
"""
WITHOUT_SIGWAITINFO = f"import signal; del signal.sigwaitinfo\n{LAUNCHER}"
TRAPPING = """
import os, signal, sys, time
def on(number, frame):
    os.write(1, f"got {signal.Signals(number).name}\\n".encode())  # another signal may come meanwhile
    if number in (signal.SIGTERM, signal.SIGHUP):
        sys.exit(9)
for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(one, on)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@contextmanager
def running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process in a session of its own, without a terminal, and what it prints."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, os.killpg, [process.pid, signal.SIGKILL])
        watchdog.start()
        try:
            yield process, process.stdout
        finally:
            watchdog.cancel()


def launched(program: str, launcher: str = LAUNCHER) -> list[str]:
    return [sys.executable, "-c", launcher, program]


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
        ("import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)", 143),
    ],
)
def test_the_exit_code_is_that_of_the_program(program: str, code: int) -> None:
    assert subprocess.run(launched(program), cwd=ROOT, check=False).returncode == code


def test_the_mask_of_signals_is_the_same_after_it_and_in_the_program() -> None:
    shown = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)"
    launcher = f"{shown}\n{LAUNCHER.replace('sys.exit(', '(')}\n{shown}"
    done = subprocess.run(
        launched(shown, launcher), cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 3
    assert len(set(done.stdout.splitlines())) == 1


def test_signals_are_not_lost_to_other_threads() -> None:
    """Neither those for the program nor that of its end, whatever the main thread does."""
    launcher = f"""
import threading, time
from translator.launch import foreground
foreground.start_without_signals(threading.Thread(target=time.sleep, args=[600], daemon=True))
next_signal = foreground._next_signal
def slow(waited):
    time.sleep(0.05)  # in which a signal would reach a thread that takes it
    return next_signal(waited)
foreground._next_signal = slow
{LAUNCHER}"""
    with running(launched(TRAPPING, launcher)) as (process, shown):
        assert shown.readline() == "ready\n"
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
            process.send_signal(number)
            assert shown.readline() == f"got {number.name}\n"
        assert process.wait(TIMEOUT_S) == 9


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_text("no program")
    with pytest.raises(CannotRun, match="Permission denied"):
        run_in_foreground(str(file), ["program"], {})


@pytest.mark.parametrize("launcher", [LAUNCHER, WITHOUT_SIGWAITINFO], ids=["linux", "others"])
@pytest.mark.parametrize("last", [signal.SIGTERM, signal.SIGHUP])
def test_signals_of_other_processes_are_passed_on(last: signal.Signals, launcher: str) -> None:
    """Without a terminal; one that ends the program has the program's own exit code."""
    with running(launched(TRAPPING, launcher)) as (process, shown):
        assert shown.readline() == "ready\n"
        for number in (signal.SIGINT, signal.SIGUSR1, last):
            process.send_signal(number)
            assert shown.readline() == f"got {number.name}\n"
        assert process.wait(TIMEOUT_S) == 9


class Terminal:
    """A pseudo-terminal with a command in its foreground."""

    def __init__(self, command: list[str]) -> None:
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            os.chdir(ROOT)
            os.execve(command[0], command, {**os.environ, "PS1": "PROMPT>"})
        self._seen = ""

    def write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str) -> str:
        """All that was shown up to and with a text, since the last call."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self._seen:
            ready = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"{text!r} does not come: {self._seen!r}"
            try:
                self._seen += os.read(self._terminal, 4096).decode()
            except OSError:
                raise AssertionError(f"the terminal is closed: {self._seen!r}") from None
        shown, _, self._seen = self._seen.partition(text)
        return shown + text

    def wait(self, options: int = 0) -> int:
        """The status of the launcher once it changes: its end, or with WUNTRACED a stop."""
        return os.waitpid(self.process, options)[1]

    def close(self) -> None:
        os.close(self._terminal)


@pytest.mark.parametrize("launcher", [LAUNCHER, WITHOUT_SIGWAITINFO], ids=["linux", "others"])
def test_the_program_has_the_terminal(launcher: str) -> None:
    """Its size is that of the terminal, also after a change; Ctrl-C reaches it once."""
    program = """
import os, select, signal
def write(*words):
    os.write(1, f"{' '.join(map(str, words))}\\n".encode())  # where print may be interrupted
def size(*_):
    write("size", *os.get_terminal_size())
count = 0
def interrupted(*_):
    global count
    count += 1
    write("interrupted", count)
signal.signal(signal.SIGWINCH, size)
signal.signal(signal.SIGINT, interrupted)
print("ready", os.isatty(0), os.isatty(1), os.isatty(2), flush=True)
while True:
    while not select.select([0], [], [], 0.05)[0]:
        pass  # a signal just before a call that waits would be handled after it
    line = input()
    if line == "end":
        raise SystemExit(3)
    print("<", line, ">", count, flush=True)
"""
    terminal = Terminal(launched(program, launcher))
    terminal.until("ready True True True")
    terminal.resize(33, 101)
    terminal.until("size 101 33")
    for number in (1, 2):
        terminal.write("\x03")
        terminal.until(f"interrupted {number}")
    terminal.write("hello\n")
    assert terminal.until("< hello > 2").count("interrupted") == 0
    terminal.write("end\n")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 3
    terminal.close()


def test_a_program_that_ctrl_c_ends_has_the_code_of_a_shell() -> None:
    program = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("ready", flush=True)
time.sleep(60)
"""
    terminal = Terminal(launched(program))
    terminal.until("ready")
    terminal.write("\x03")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 130
    terminal.close()


def test_a_stopped_program_gives_the_terminal_back() -> None:
    """Where the program stops, the launcher stops, as a shell expects; both go on with SIGCONT."""
    program = """
import os, signal
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print("went on", flush=True)
input()
"""
    terminal = Terminal(launched(program))
    terminal.until("ready")
    assert os.WIFSTOPPED(terminal.wait(os.WUNTRACED))
    os.kill(terminal.process, signal.SIGCONT)  # to the launcher alone
    terminal.until("went on")
    terminal.write("\n")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 0
    terminal.close()


def test_ctrl_z_and_fg_of_a_real_shell(tmp_path: Path) -> None:
    """Job control by bash itself: the prompt comes back, and `fg` goes on with the program."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    shell = Terminal([bash, "--norc", "--noprofile", "-i"])
    shell.until("PROMPT>")
    program = "print('rea' + 'dy', flush=True); print('line', input() + '!', flush=True)"
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    words = [sys.executable, str(tmp_path / "launcher.py"), program]
    shell.write(f"PYTHONPATH={ROOT} {shlex.join(words)}\n")
    shell.until("ready")
    shell.write("\x1a")
    shell.until("Stopped")
    shell.write("fg\n")
    shell.until("fg")
    shell.write("hello\n")
    shell.until("line hello!")
    shell.write("exit\n")
    shell.wait()
    shell.close()
