"""`[accounts]`: keys, limits and bills of clients in a database, which change while it is used.

The URL is as in `[store]`, of a database of its own. Without the section nothing of it is imported;
with it there are no `[clients]`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from .sections import read_section
from .store import Location, read_location

_PUBLIC_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+/?")

_Positive = Annotated[int, Meta(gt=0)]
_Seconds = Annotated[float, Meta(gt=0)]
_Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]

BOTH_SECTIONS = (
    "accounts: cannot be used with [clients]; move these with translator account import-clients"
    " FILE --account NAME, which keeps their keys, and take [clients] out"
)


class AccountsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[accounts]` as it is written. With an empty section, all defaults hold."""

    url: str = "sqlite:///accounts.db"
    """The database: a SQLite file, relative to the folder of the settings file, or after four
    slashes absolute; or `postgresql://user@host/name`. `translator account init` makes it."""

    url_env: str | None = None
    """Environment variable that holds the URL, for one with a password."""

    billing: bool = True
    """Requests cost money: each needs a price and a balance. If not, accounts have no balance, and
    only the limits of keys hold."""

    currency: _Currency = "USD"
    """The currency of all money, which `translator account init` fixes."""

    hold_output_tokens: _Positive = 32_768
    """Tokens of an answer for which money is held where neither the request nor the model limits
    it."""

    min_output_tokens: _Positive = 256
    """Least tokens of an answer that must be affordable: a request with less money is refused, with
    more its answer is limited to what there is."""

    bill_broken: Literal["nothing", "estimate"] = "nothing"
    """What an answer costs that the upstream or the service broke off before its usage was
    known."""

    forward_priced: tuple[str, ...] = ()
    """Fields of chat requests that may change the upstream's price and are sent all the same, as in
    `["service_tier"]`. Others are refused where requests cost money."""

    when_database_fails: Literal["refuse", "serve"] = "refuse"
    """What becomes of requests while the database cannot be used: a 503, or, without `billing`, an
    answer to each key that was seen before."""

    database_timeout_s: _Seconds = 2.0
    """Longest wait for the database before a request is sent."""

    checkpoint_s: _Seconds = 5.0
    """How often it is written how far the open requests are, and that the process lives."""

    lease_s: _Seconds = 60.0
    """After how long without that a process is taken for dead, and others end its requests."""

    reads_per_minute: Annotated[int, Meta(ge=0)] = 300
    """Most requests of a key in a minute that only ask, about itself, usage or accounts, and cost
    nothing; each process counts for itself. 0: any number."""

    usage_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """How many days the rows of single requests are kept; then the service deletes them, and their
    sums and the ledger stay. 0: until `translator account prune` does."""

    dashboard: bool = True
    """Pages under `/account` for people: their keys, what these cost, and what operators do. Needs
    the extra `accounts`."""

    public_url: str | None = None
    """The URL by which clients reach the service, as in `https://gateway.example`, for the set-ups
    that the pages show. Default: the address by which a page was asked for."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies, as in `["10.0.0.0/8"]`, that say who asks for a page, by
    `X-Forwarded-For` and `X-Forwarded-Proto`. Others are not believed."""


Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Accounts(Struct, frozen=True, kw_only=True):
    """The resolved section: the location of the database, the proxies, and the rest."""

    location: Location
    proxies: tuple[Network, ...] = ()
    section: AccountsSection


def read_accounts(
    value: object,
    folder: Path,
    environ: Mapping[str, str],
    problems: list[str],
    *,
    has_models: bool,
    has_clients: bool,
) -> Accounts | None:
    """The accounts of an `[accounts]` section; None when there is a mistake in it.

    A relative path in its URL is one in `folder`.
    """
    before = len(problems)
    section = read_section(AccountsSection, value, "accounts", problems)
    if has_clients:
        problems.append(BOTH_SECTIONS)
    if section.billing and not has_models:
        problems.append(
            "accounts.billing: needs the [models] that have prices; or set billing = false"
        )
    if section.billing and section.when_database_fails == "serve":
        problems.append('accounts.when_database_fails: "serve" needs billing = false')
    if section.lease_s < 2 * section.checkpoint_s:
        problems.append("accounts.lease_s: must be twice checkpoint_s at least")
    if section.public_url is not None and not _PUBLIC_URL.fullmatch(section.public_url):
        problems.append(
            "accounts.public_url: must be http:// or https://, a name and perhaps a port; without"
            " /v1, which is added"
        )
    proxies = _networks(section.trusted_proxies, problems)
    location = read_location(section, value, "accounts", folder, environ, problems)
    if location is None or len(problems) > before:
        return None
    # without the URL, which may hold a password and is in the location
    return Accounts(
        location=location, proxies=proxies, section=msgspec.structs.replace(section, url="")
    )


def _networks(texts: tuple[str, ...], problems: list[str]) -> tuple[Network, ...]:
    found: list[Network] = []
    for number, text in enumerate(texts):
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            problems.append(f"accounts.trusted_proxies[{number}]: {text!r} is no address")
    return tuple(found)
