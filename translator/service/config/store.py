"""`[store]`: where responses are stored, for how long, and within which bounds.

    url = sqlite:///file.db            relative to the folder of the settings file
        | sqlite:////folder/file.db    absolute
        | postgresql://user@host/name  what libpq takes as a URL

Without the section nothing is stored, and nothing that could store is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct

from .sections import read_section

_Positive = Annotated[int, Meta(gt=0)]
_NotNegative = Annotated[int, Meta(ge=0)]
_Seconds = Annotated[float, Meta(gt=0)]
_LeaseSeconds = Annotated[float, Meta(ge=0.5, le=3600)]
_Days = Annotated[float, Meta(gt=0, le=36_500)]
_DaysOrNever = Annotated[float, Meta(ge=0, le=36_500)]

_SQLITE = "sqlite:///"
_POSTGRESQL = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")
_PASSWORD_IN_QUERY = re.compile(r"((?:^|&)(?:ssl)?password=)([^&]*)")

Kind = Literal["sqlite", "postgresql"]


class Location(Struct, frozen=True):
    """Where a database is: the path of a file, or the URL of a server, which may hold a password.

    Its `repr` and `shown` hold none.
    """

    kind: Kind
    target: str

    @property
    def shown(self) -> str:
        """The location for people: without its password."""
        if self.kind == "sqlite":
            return self.target
        parts = urlsplit(self.target)
        user, at, host = parts.netloc.rpartition("@")
        query = _PASSWORD_IN_QUERY.sub(r"\1***", parts.query)
        return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=query))

    @property
    def passwords(self) -> set[str]:
        """The passwords in its URL, as they are written, and unquoted."""
        if self.kind == "sqlite":
            return set()
        parts = urlsplit(self.target)
        found = {pair[1] for pair in _PASSWORD_IN_QUERY.findall(parts.query)}
        if parts.password:
            found.add(parts.password)
        return found | {unquote(one) for one in found}

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"


class StoreSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]` as it is written. With an empty section, all defaults hold."""

    url: str = "sqlite:///translator.db"
    """The database: a SQLite file, relative to the folder of the settings file, or after four
    slashes absolute; or `postgresql://user@host/name`."""

    url_env: str | None = None
    """Environment variable that holds the URL, for one with a password."""

    required: bool = False
    """Whether `/readyz` says `not_ready` while the database cannot be used."""

    retention_days: _Days = 30.0
    """How long a response is stored after the last response that continues it, directly or not."""

    conversation_days: _DaysOrNever = 0.0
    """How long a conversation is stored after its last change; 0: until it is deleted."""

    write_wait_s: _Seconds = 5.0
    """Longest wait for a response to be on the disk before its last event is sent."""

    read_wait_s: _Seconds = 2.0
    """Longest wait for what a request refers to."""

    max_kept_response_bytes: _Positive = 32 * 1024 * 1024
    """Largest response that is stored, its own input included."""

    max_kept_item_bytes: _Positive = 16 * 1024 * 1024
    """Largest item of a response or a conversation that is stored."""

    max_client_bytes: _NotNegative = 0
    """What may be stored of one client, its conversations and their metadata included, in bytes;
    0: as much as there is room for."""

    delete_context: bool = False
    """Whether the items of a deleted response go at once, though others go on from it: then these
    cannot be continued. By default they stay until the last of those is deleted or expires."""

    max_chain_responses: _Positive = 10_000
    """Most responses in a chain of `previous_response_id`."""

    max_conversation_items: _Positive = 50_000
    """Most items of a conversation; a response that has begun may exceed it with its output."""

    max_queue_bytes: _Positive = 64 * 1024 * 1024
    """Memory for responses that wait to be written."""

    max_background: _Positive = 64
    """Most responses in the background, of one process and of one client."""

    lease_s: _LeaseSeconds = 30.0
    """How long a response in the background that nobody produces any more seems to be running, and
    the lock of a conversation holds: their process tells the database three times in this period
    that it is there."""

    background_ttl_s: _Seconds = 600.0
    """How long a response in the background with `store: false` can be read after its end."""

    stream_keep_s: _Seconds = 3600.0
    """How long the events of a response in the background can be streamed after its end."""

    max_events_bytes: _Positive = 32 * 1024 * 1024
    """Most bytes of the events of one response in the background; with more of them it fails."""

    max_store_bytes: _NotNegative = 0
    """Largest SQLite file; 0: any size."""


class Store(Struct, frozen=True, kw_only=True):
    """The resolved section: the location of the database, and the bounds."""

    location: Location
    limits: StoreSection


def read_store(
    value: object, folder: Path, environ: Mapping[str, str], problems: list[str]
) -> Store | None:
    """The store of a `[store]` section; None when there is a mistake in it.

    A relative path in its URL is one in `folder`.
    """
    before = len(problems)
    section = read_section(StoreSection, value, "store", problems)
    location = read_location(section, value, "store", folder, environ, problems)
    if location is None or len(problems) > before:
        return None
    if section.max_store_bytes and location.kind != "sqlite":
        problems.append("store.max_store_bytes: is for a SQLite file alone")
        return None
    # without the URL, which may hold a password and is in the location
    return Store(location=location, limits=msgspec.structs.replace(section, url=""))


class _HasUrl(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def url_env(self) -> str | None: ...


def read_location(
    section: _HasUrl,
    value: object,
    name: str,
    folder: Path,
    environ: Mapping[str, str],
    problems: list[str],
) -> Location | None:
    """The location that a section of that `name` gives, whose table is `value`; None: a mistake."""
    url, path = section.url, f"{name}.url"
    if section.url_env is not None:
        path = f"{name}.url_env"
        if isinstance(value, dict) and "url" in value:
            problems.append(f"{path}: cannot be used with url; leave one of them out")
        url = environ.get(section.url_env, "").strip()
        if not url:
            problems.append(f"{path}: the environment variable {section.url_env} is not set")
            return None
    return _location(url, folder, path, problems)


def _location(url: str, folder: Path, path: str, problems: list[str]) -> Location | None:
    if url.startswith(_SQLITE):
        name = unquote(url.removeprefix(_SQLITE))
        if not name or name.startswith(":memory:") or "?" in name:
            problems.append(f"{path}: expected the path of a file, as in sqlite:///translator.db")
            return None
        return Location("sqlite", str((folder / name).absolute()))
    if found := _POSTGRESQL.match(url):
        return Location("postgresql", f"postgresql://{url[found.end() :]}")
    # not quoted: it may hold a password
    problems.append(f"{path}: expected a URL that starts with sqlite:/// or postgresql://")
    return None
