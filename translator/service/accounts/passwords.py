"""Passwords: argon2id hashes, made and checked one at a time, in a thread.

A hash takes 64 MiB and a good part of a second, beside streams; so there is never more than one at
a time, and few may wait. An unknown name costs what a known one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

MIN_CHARACTERS = 12
MAX_BYTES = 1024

MAX_WAITING = 16
"""Most passwords that wait to be checked or hashed."""


_NOBODY = (
    "$argon2id$v=19$m=65536,t=3,p=4$11nkK4OtgokzLtfJmCqe6Q$"
    "sjfGRXmIiyxKWJ1YF5vYAPoNAQNaKHR0MLAK5hqUzL4"
)
"""A hash that no password has: of 256 random bits that nobody has kept."""


class Busy(Exception):
    """Too many passwords wait to be checked."""


def problem_of(password: str) -> str:
    """Why a new password is not accepted; empty where it is."""
    if len(password) < MIN_CHARACTERS:
        return f"A password has at least {MIN_CHARACTERS} characters."
    if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"A password has at most {MAX_BYTES} bytes."
    return ""


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # few need it

    return PasswordHasher()


def hash_password(password: str) -> str:
    """The text of a password's hash, with its parameters and its salt."""
    return _hasher().hash(password.encode("utf-8", "surrogatepass"))


def verify(stored: str | None, password: str) -> bool:
    """Whether a password is that of a stored hash; None is that of nobody, and takes as long."""
    from argon2.exceptions import InvalidHashError, VerificationError

    data = password.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        data, stored = b"", None
    try:
        return _hasher().verify(_NOBODY if stored is None else stored, data) and bool(stored)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(stored: str) -> bool:
    """Whether a hash was made with other parameters than those of today."""
    return _hasher().check_needs_rehash(stored)


class Passwords:
    """Hashes of a process: one at a time, in a thread."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is the right one; raises Busy."""
        return await self._run(partial(verify, stored, password))

    async def hash(self, password: str) -> str:
        """The hash of a password; raises Busy."""
        return await self._run(partial(hash_password, password))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._lock:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
