"""Filters on the hosts of results and pages: domains, which stand for all below them, too."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from translator.common.web_search import MAX_DOMAINS, domain_of


class Domains(Struct, frozen=True):
    """The domains that are allowed, all without any; and those that are blocked."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def take(self, url: str) -> bool:
        """Whether the host of a URL passes."""
        try:
            host = (urlsplit(url).hostname or "").rstrip(".")
        except ValueError:
            return False
        if any(is_below(host, domain) for domain in self.blocked):
            return False
        return not self.allowed or any(is_below(host, domain) for domain in self.allowed)

    def narrowed(self, domains: Iterable[str]) -> Domains:
        """The filter that takes what both do: this one, and a list of allowed domains."""
        wanted = plain(filter(str.strip, domains))
        if not wanted:
            return self
        if not self.allowed:
            return Domains(wanted, self.blocked)
        both = [one for one in wanted if any(is_below(one, other) for other in self.allowed)]
        both += [one for one in self.allowed if any(is_below(one, other) for other in wanted)]
        return Domains(tuple(dict.fromkeys(both)) or (_NOWHERE,), self.blocked)


_NOWHERE = "invalid"
"""A domain without hosts (RFC 2606)."""


def plain(texts: Iterable[str]) -> tuple[str, ...]:
    """Domains as hosts are compared; a text that is none stands for no host, and not for all."""
    names = (domain_of(text) or _NOWHERE for text in texts)
    return tuple(dict.fromkeys(names))[:MAX_DOMAINS]


def is_below(host: str, domain: str) -> bool:
    """Whether a host is a domain, or one below it; below an address there is none."""
    if host == domain:
        return True
    is_address = ":" in host or host.rpartition(".")[2].isdigit()
    return not is_address and host.endswith(f".{domain}")
