"""Our own code sees this system as Windows would show it.

    python -m tests.service.posix_only COMMAND …     runs `translator COMMAND …` so

Our modules see `sys.platform == "win32"`, no module and no name that only POSIX systems have, event
loops that take no signal handlers, and no file that is open can be renamed, replaced or removed. The
standard library and the packages of others stay what they are: what they do on Windows is tested by
others, and cannot be loaded here.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

MODULES = frozenset(
    {"fcntl", "termios", "resource", "pwd", "grp", "tty", "pty", "uvloop", "curses"}
)
"""Modules that Windows does not have."""

NAMES: Mapping[str, frozenset[str]] = {
    "os": frozenset(
        "fork forkpty getuid geteuid getgid getegid getpgid setpgid setsid killpg uname pread"
        " pwrite preadv pwritev memfd_create sched_getaffinity sched_setaffinity getloadavg sysconf"
        " mkfifo chown fchown chroot nice wait WNOHANG WIFEXITED O_NOFOLLOW O_DIRECTORY O_CLOEXEC"
        " O_NONBLOCK".split()
    ),
    "signal": frozenset(
        "SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 SIGPIPE SIGCHLD SIGALRM SIGWINCH alarm"
        " pthread_sigmask sigwait setitimer".split()
    ),
    "socket": frozenset("AF_UNIX SO_REUSEPORT TCP_USER_TIMEOUT SCM_RIGHTS MSG_DONTWAIT".split()),
    "select": frozenset({"poll", "epoll"}),
    "time": frozenset({"tzset", "clock_gettime", "pthread_getcpuclockid"}),
}
"""Names that its modules do not have."""


class AsOnWindows(ModuleType):
    """A module without the names that Windows does not have."""

    def __init__(self, real: ModuleType) -> None:
        super().__init__(real.__name__)
        self.__dict__["_real"] = real

    def __getattr__(self, name: str) -> Any:
        real = self.__dict__["_real"]
        if name in NAMES.get(real.__name__, ()):
            raise AttributeError(f"module {real.__name__!r} has no attribute {name!r}", name=name)
        return "win32" if (real, name) == (sys, "platform") else getattr(real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_real"], name, value)


def become_windows() -> None:
    """From now on, what our modules import is what Windows would give them."""
    stand_ins = {
        name: AsOnWindows(sys.modules[name] if name == "sys" else __import__(name))
        for name in (*NAMES, "sys")
    }
    real_import: Callable[..., ModuleType] = builtins.__import__

    def shown(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        package, _, _ = str((globals or {}).get("__name__", "")).partition(".")
        if name in MODULES and (package == "translator" or name == "uvloop"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if package == "translator" and name in stand_ins:
            return stand_ins[name]
        return real_import(name, globals, locals, fromlist, level)

    for name in ("rename", "replace", "unlink", "remove"):
        setattr(os, name, _unless_open(getattr(os, name)))

    def no_signal_handlers(*_: object) -> None:
        raise NotImplementedError

    builtins.__import__ = shown
    asyncio.SelectorEventLoop.add_signal_handler = no_signal_handlers  # type: ignore[assignment]


def _unless_open(change: Callable[..., None]) -> Callable[..., None]:
    """A change of names that fails where this process has one of the files open."""

    def changed(*paths: Any, **more: Any) -> None:
        opened = {os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")}
        for path in paths:
            real = os.path.realpath(path)
            if any(name == real or name.startswith(f"{real}/") for name in opened):
                raise PermissionError(errno.EACCES, "another process uses the file", str(path))
        change(*paths, **more)

    return changed


def main(words: Sequence[str]) -> int:
    become_windows()
    from translator.__main__ import main as translator

    return translator(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
