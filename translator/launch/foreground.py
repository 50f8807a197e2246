"""A program in the foreground: it has our terminal, gets our signals, and its exit code is ours.

The program stays in our process group, so a shell's job control works as for any command: Ctrl-C,
Ctrl-Z and the window size come from the terminal to the whole group. What the terminal sends is
therefore not passed on, and what another process sends to us is (`kill PID`). Where the program
stops, we stop, too: the shell then has the terminal back until `fg`.

    signal from the terminal   ignored here: the program has it
    signal from a process      passed on
    program stopped            we stop; SIGCONT is passed on
    program ended              its exit code, or 128 + the number of the signal

We wait for signals with sigwaitinfo, which says who sent one. macOS lacks it: there a signal of the
terminal's kind counts as the terminal's while we are in its foreground. Windows has neither groups
nor stopping: Ctrl-C reaches both processes, and only the program acts on it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

SI_USER = 0
"""The highest `si_code` of a signal that a process sent; those of the kernel are above it."""


class CannotRun(Exception):
    """The program cannot be started; the text is the system's reason."""


def run_in_foreground(path: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program at `path` to its end; returns its exit code, as a shell would.

    `command` are its arguments, its own name first. Call it in the main thread; other threads have
    to be started by `start_without_signals`. Raises CannotRun.
    """
    try:
        if sys.platform == "win32":
            return _run_on_windows(path, command, environ)
        return _run(path, command, environ)
    except OSError as error:
        raise CannotRun(error.strerror or str(error)) from None


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread that gets no signals: the main thread would miss them while it works."""
    if sys.platform == "win32":
        thread.start()
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def exit_code(code: int) -> int:
    """The exit code of a process, where a negative one is a signal's, as a shell reports it."""
    return 128 - code if code < 0 else code


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal by nothing; where it is ignored, the program would ignore it, too."""


if sys.platform == "win32":

    def _run_on_windows(path: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
        before = signal.signal(signal.SIGINT, _nothing)  # it is the program's own affair
        try:
            with subprocess.Popen([path, *command[1:]], env=dict(environ)) as program:
                return exit_code(program.wait())
        finally:
            signal.signal(signal.SIGINT, before)

else:
    _TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP})
    """Signals that a terminal sends to its foreground group."""

    _PASSED = _TERMINAL | {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}

    def _run(path: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
        waited = {*_PASSED, signal.SIGCHLD}
        handler = signal.signal(signal.SIGCHLD, _nothing)  # some systems drop ignored ones
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
        try:
            # Not subprocess: it would run code between fork and exec to set the mask, which is not
            # safe beside threads. Python ignores SIGPIPE; programs do not expect that.
            process = os.posix_spawn(
                path, list(command), environ, setsigmask=mask, setsigdef=[signal.SIGPIPE]
            )
            return exit_code(_wait(process, waited))
        finally:
            # what came too late for the program is not for us
            while signal.sigpending() & _PASSED:
                signal.sigwait(signal.sigpending() & _PASSED)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.signal(signal.SIGCHLD, handler)

    def _wait(process: int, waited: set[signal.Signals]) -> int:
        """Pass signals on until the process has ended; its status as `subprocess` has it."""
        while True:
            number, from_terminal = _next_signal(waited)
            if number != signal.SIGCHLD:
                if not from_terminal:
                    os.kill(process, number)
                continue
            while True:
                found, status = os.waitpid(process, os.WNOHANG | os.WUNTRACED)
                if not found:
                    break
                if not os.WIFSTOPPED(status):
                    return os.waitstatus_to_exitcode(status)
                os.kill(os.getpid(), signal.SIGSTOP)

    def _next_signal(waited: set[signal.Signals]) -> tuple[int, bool]:
        """The next signal, and whether the terminal sent it, to the program as well."""
        if sys.platform != "darwin" and hasattr(signal, "sigwaitinfo"):
            received = signal.sigwaitinfo(waited)
            return received.si_signo, received.si_code > SI_USER
        number = signal.sigwait(waited)
        return number, number in _TERMINAL and _in_foreground()

    def _in_foreground() -> bool:
        """Whether our process group is the one that a terminal sends its signals to."""
        try:
            terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        except OSError:
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False
        finally:
            os.close(terminal)
