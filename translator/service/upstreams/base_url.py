"""Base URLs that miss their path: found out after the start, and told where an upstream says 404.

    no version in the path of base_url, GET base_url/models is a 404 or a page
    ──► GET of each likely other URL + /models, until one is there ──► a warning; a hint in /readyz

Only URLs without a version are asked (`/v1` and the like): others are right for most upstreams, and
an upstream without a list of models has none elsewhere either. No key is sent, and no request waits
for the answers.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from translator.service.config.settings import Upstream
from translator.service.config.urls import has_version, origin_of
from translator.wire.errors import UpstreamError
from translator.wire.json_values import as_list, as_object

from .health import UpstreamHealth

log = logging.getLogger(__name__)

CHECK_AFTER_S = 0.5
"""Seconds from the start to the first request: the first clients come first."""

MAX_LIST_BYTES = 4 * 1024 * 1024
"""Largest list of models that is read."""

MAX_OTHER_URLS = 3
"""Other URLs that are tried where one does not lead to an API."""

_ENDPOINT = re.compile(r"/(?:models|responses|completions|chat|embeddings|messages)/?$")

_MISSING = frozenset({404, 405})

_NEEDS_KEY = frozenset({401, 403})

_OF_A_PATH = re.compile(
    r"^(?:error: |http )?(?:404 )?(?:not found|method not allowed"
    r"|(?:file|page|path|url|resource|route|endpoint) not found)[.!]?$"
    r"|^(?:nginx )?404(?: not found)?$|upstream answered HTTP 40[45]"
    r"|chat/completions|invalid url|no (?:such )?(?:route|path)|<html|<!doctype",
    re.IGNORECASE,
)
"""How upstreams say that a path is not theirs, and not that a model is unknown."""


class Fetcher(Protocol):
    """Asks upstreams without a key; `Upstreams` does."""

    health: UpstreamHealth

    async def fetch(self, url: str, max_bytes: int) -> tuple[int, bytes] | None:
        """The status of a GET and the beginning of its body; None without an answer."""
        ...


def path_hint(upstream: Upstream, error: UpstreamError) -> str:
    """What to add to an upstream's 404 or 405 that is about its path; empty for any other."""
    text = error.text or error.message
    if error.code == "model_not_found" or not _OF_A_PATH.search(text.strip()):
        return ""
    what = "be wrong" if upstream.has_version else "have to end in /v1"
    return f" (This is the upstream's answer at its /chat/completions: its base_url may {what}.)"


async def check_base_urls(fetcher: Fetcher, upstreams: Iterable[Upstream]) -> None:
    """Warn of each base URL that seems to miss its path."""
    await asyncio.sleep(CHECK_AFTER_S)
    await asyncio.gather(*(_check(fetcher, one) for one in upstreams if not one.has_version))


async def _check(fetcher: Fetcher, upstream: Upstream) -> None:
    for url in upstream.urls:
        if await _found(fetcher, url) != "nothing":
            continue
        for other in other_urls(url):
            if await _found(fetcher, other) == "models":
                origin, path = origin_of(url), urlsplit(other).path
                fetcher.health.hints[upstream.name] = f"base_url may have to end in {path}"
                log.warning(
                    "upstream %s: nothing is at %s/models, and models are at %s%s/models: its"
                    " base_url may have to end in %s",
                    upstream.name,
                    url,
                    origin,
                    path,
                    path,
                )
                break


def other_urls(url: str) -> list[str]:
    """Base URLs that may be meant in place of one that leads to no API, the likeliest first."""
    path, origin = urlsplit(url).path.rstrip("/"), origin_of(url)
    own = path
    while _ENDPOINT.search(path):
        path = _ENDPOINT.sub("", path)
    found = [path] if path != own else []
    if not has_version(own):
        found += (f"{own}/v1", "/v1", "/api/v1")
    found.append("/v1")
    return [origin + one for one in dict.fromkeys(found) if one != own][:MAX_OTHER_URLS]


async def _found(fetcher: Fetcher, base_url: str) -> Literal["models", "nothing", "unknown"]:
    """What is at a base URL. LM Studio answers unknown paths with 200, others with a page."""
    answer = await fetcher.fetch(f"{base_url}/models", MAX_LIST_BYTES)
    if answer is None:
        return "unknown"
    status, body = answer
    if status in _MISSING:
        return "nothing"
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        value = None
    if status in _NEEDS_KEY:
        return "unknown" if value is None else "models"
    if status != 200:
        return "unknown"
    rows = as_list(value) or as_list((as_object(value) or {}).get("data"))
    return "nothing" if rows is None else "models"
