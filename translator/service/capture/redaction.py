"""Redaction: removes secrets from captured bytes.

Of an upstream's headers only those on a short list are written. But clients put keys into prompts,
and upstreams repeat them in errors; so every known key, the operator's and those in the client's
headers, is searched in all bytes: plain, as JSON escapes it, and inside the sealed reasoning and
summaries of a conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from translator.captures.folder import REMOVED
from translator.common.sealed import MAX_REASONING_BYTES, pack, unpack
from translator.common.sealed import PREFIX as REASONING
from translator.dialects import DIALECTS
from translator.request.compaction import MAX_SUMMARY_BYTES
from translator.request.compaction import PREFIX as SUMMARY
from translator.service.config.settings import Settings

MIN_SECRET_CHARACTERS = 8
"""A shorter value protects nothing, and may occur anywhere by chance."""

UPSTREAM_HEADERS = re.compile(
    r"content-(?:type|encoding)|date|retry-after(?:-ms)?|server|x-request-id|x-ratelimit-[a-z-]+"
)
"""The headers of an upstream that are written."""

_SECRET_NAME = re.compile(r"auth|cookie|key|passw|secret|session|token", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;]+")
_LIMITS = {REASONING: MAX_REASONING_BYTES, SUMMARY: MAX_SUMMARY_BYTES}
_BLOB = re.compile(rf"(?:{'|'.join(map(re.escape, _LIMITS))})[A-Za-z0-9_=-]+".encode())


class Redaction:
    """Replaces secrets by REMOVED."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)  # one secret may contain another

    def __call__(self, data: bytes) -> bytes:
        if not self._forms:
            return data
        return self._plain(_BLOB.sub(self._blob, data))

    def text(self, text: str) -> str:
        return self(text.encode()).decode()

    def _plain(self, data: bytes) -> bytes:
        for form in self._forms:
            data = data.replace(form, REMOVED.encode())
        return data

    def _blob(self, match: re.Match[bytes]) -> bytes:
        blob = match[0].decode()
        for prefix, limit in _LIMITS.items():
            plain = unpack(prefix, blob, limit)
            if plain is not None and (clean := self._plain(plain)) != plain:
                return pack(prefix, clean).encode()
        return match[0]


def operator_secrets(settings: Settings) -> set[str]:
    """The keys and secret headers of all upstreams, whichever of them a request is sent to."""
    found: set[str] = set()
    for upstream in settings.upstreams.values():
        if upstream.api_key is not None:
            found.add(upstream.api_key)
        # A header that an operator sets may be a secret, whatever its name; but the name of a
        # dialect must stay readable in exchange.toml.
        found |= {value for value in upstream.headers.values() if value not in DIALECTS}
        found |= secrets_in(upstream.headers)
    return {one for one in found if len(one) >= MIN_SECRET_CHARACTERS}


def client_secrets(headers: Iterable[tuple[bytes, bytes]]) -> set[str]:
    """The secrets in the headers of a client's request."""
    return secrets_in({str(name, "latin-1"): str(value, "latin-1") for name, value in headers})


def secrets_in(headers: Mapping[str, str]) -> set[str]:
    """The possible secrets in headers with names such as `authorization` and `cookie`."""
    found: set[str] = set()
    for name, value in headers.items():
        if _SECRET_NAME.search(name):
            found |= {value, *_words(value)}
    return {one for one in found if len(one) >= MIN_SECRET_CHARACTERS}


def _words(value: str) -> Iterator[str]:
    """The key behind "Bearer", and the value of each cookie."""
    scheme, _, rest = value.strip().partition(" ")
    for word in _SEPARATORS.split(rest or scheme):
        yield word
        yield word.partition("=")[2]


def _forms(secret: str) -> Iterator[bytes]:
    """The spellings of a secret: plain, and in JSON."""
    for text in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield text.encode()
        yield text.replace("/", "\\/").encode()
