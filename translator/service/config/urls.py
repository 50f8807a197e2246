"""Parts of the base URL of an upstream."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_VERSION = re.compile(r"/v[0-9]")


def has_version(url: str) -> bool:
    """Whether a URL names a version of the API, as `/v1` does."""
    return _VERSION.search(url) is not None


def origin_of(url: str) -> str:
    """The scheme, host and port of a URL, as `http://127.0.0.1:8000`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
