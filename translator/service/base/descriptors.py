"""File descriptors: their limit, and errors that mean that none is left.

Each open response needs two, one for the client and one for the upstream. A process that has used
all of them can neither accept a connection nor open one: that is no fault of an upstream.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct

from .periodic_warning import PeriodicWarning

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of the system for want of descriptors, of this process or of the machine, or of memory."""

_warn = PeriodicWarning(logging.getLogger(__name__))


def max_open_files() -> int | None:
    """The soft limit of open files (RLIMIT_NOFILE); None where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def unread_bytes(transport: asyncio.BaseTransport) -> int:
    """How much the system holds that has arrived and has not been read; 0 if it cannot tell."""
    try:
        import fcntl
        import termios
    except ImportError:  # Windows
        return 0
    number: int = transport.get_extra_info("socket").fileno()
    if number < 0:
        return 0
    [size] = struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, bytes(4)))
    return int(size)


def is_exhaustion(error: OSError) -> bool:
    """Whether an error came for want of descriptors.

    The resolver of names reports it under other numbers, and an error that stands for several has
    no number: then a descriptor is tried for.
    """
    if isinstance(error, socket.gaierror) or error.errno is None:
        return _none_left()
    return error.errno in EXHAUSTED


def _none_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in EXHAUSTED
    return False


def report_exhaustion(consequence: str) -> None:
    """Log that no descriptor is left; one line per period in the process."""
    limit = max_open_files()
    _warn(
        "no file descriptor is left%s: %s; raise LimitNOFILE (ulimit -n)",
        "" if limit is None else f" (the limit is {limit})",
        consequence,
    )
