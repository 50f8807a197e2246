"""Redaction: removes secrets from captured bytes.

Of an upstream's headers only those on a short list are written. But clients put keys into prompts,
and upstreams repeat them in errors; so every known key, the operator's and those of the client's
headers and tools, is searched in all bytes, and inside the sealed reasoning and summaries of a
conversation. The secrets of an MCP server are removed from its tool besides, however short.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw

from translator.common.sealed import MAX_REASONING_BYTES, pack, unpack
from translator.common.sealed import PREFIX as REASONING
from translator.common.tool_secrets import secrets_of, without_secrets
from translator.dialects import DIALECTS
from translator.request.compaction import MAX_SUMMARY_BYTES
from translator.request.compaction import PREFIX as SUMMARY
from translator.service.base import redaction
from translator.service.base.redaction import MIN_SECRET_CHARACTERS
from translator.service.config.secrets import (
    client_secrets,
    secrets_in,
    settings_secrets,
    url_secrets,
)
from translator.service.config.settings import Settings
from translator.wire.json_values import NOT_JSON, as_list, as_object, objects_in

__all__ = [
    "Redaction",
    "client_secrets",
    "operator_secrets",
    "secrets_in",
    "tool_secrets",
    "without_tool_secrets",
]

UPSTREAM_HEADERS = re.compile(
    r"content-(?:type|encoding)|date|retry-after(?:-ms)?|server|x-request-id|x-ratelimit-[a-z-]+"
)
"""The headers of an upstream that are written."""

_LIMITS = {REASONING: MAX_REASONING_BYTES, SUMMARY: MAX_SUMMARY_BYTES}
_BLOB = re.compile(rf"(?:{'|'.join(map(re.escape, _LIMITS))})[A-Za-z0-9_=-]+".encode())


class Redaction(redaction.Redaction):
    """Replaces secrets by REMOVED, in what is sealed, too."""

    max_escapes = None  # a conversation may have any number; a thread has the time

    def __call__(self, data: bytes) -> bytes:
        if not self.secrets:
            return data
        return super().__call__(_BLOB.sub(self._blob, data))

    def _blob(self, match: re.Match[bytes]) -> bytes:
        blob = match[0].decode()
        for prefix, limit in _LIMITS.items():
            plain = unpack(prefix, blob, limit)
            if plain is not None and (clean := super().__call__(plain)) != plain:
                return pack(prefix, clean).encode()
        return match[0]


def operator_secrets(settings: Settings) -> set[str]:
    """The keys and all headers of all upstreams, whichever of them a request is sent to."""
    found = settings_secrets(settings)
    for upstream in settings.upstreams.values():
        # A header that an operator sets may be a secret, whatever its name; but the name of a
        # dialect must stay readable in exchange.toml.
        found |= {value for value in upstream.headers.values() if value not in DIALECTS}
    return {one for one in found if len(one) >= MIN_SECRET_CHARACTERS}


def tool_secrets(request: bytes) -> set[str]:
    """The secrets in the tools of a request: what an MCP server or a container is told."""
    found: set[str] = set()
    for raw in _tools(request):
        for name, values in secrets_of(raw).items():
            if name == "server_url":
                found |= {part for url in _strings(values) for part in url_secrets(url)}
            elif name == "domain_secrets":
                found |= {text for one in values for text in _values_of_domains(one)}
            else:
                found |= secrets_in({f"key-{n}": text for n, text in enumerate(_strings(values))})
    return {one for one in found if len(one) >= MIN_SECRET_CHARACTERS}


def without_tool_secrets(request: bytes) -> bytes:
    """A request without the secrets in its tools; all other bytes are unchanged."""
    for raw in _tools(request):
        clean = without_secrets(raw)
        if clean is not raw:
            request = request.replace(bytes(raw), bytes(clean))
    return request


def _tools(request: bytes) -> Iterator[Raw]:
    """The tools of a request, and those in its items; none of a body that is no request."""
    fields = _fields(request)
    yield from _entries(fields.get("tools"))
    for item in _entries(fields.get("input")):
        yield from _entries(_fields(item).get("tools"))


def _fields(value: bytes | Raw) -> dict[str, Raw]:
    try:
        return _read_fields(value)
    except NOT_JSON:
        return {}


def _entries(value: Raw | None) -> list[Raw]:
    try:
        return [] if value is None else _read_list(value)
    except NOT_JSON:
        return []


def _strings(value: object) -> Iterator[str]:
    """All strings in a decoded value; the names of fields are none."""
    if isinstance(value, str):
        yield value
    for entry in (*(as_list(value) or ()), *(as_object(value) or {}).values()):
        yield from _strings(entry)


def _values_of_domains(value: object) -> Iterator[str]:
    for entry in objects_in(value):
        yield from _strings(entry.get("value"))


_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_list = msgspec.json.Decoder(list[Raw]).decode
