"""The header that names the conversation to an upstream that has one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from translator.dialects import Dialect
from translator.service.upstreams.client import NO_HEADERS

_PLAIN_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
"""What goes into a header as it is; of any other id its digest does."""


def session_header(dialect: Dialect, cache_key: str | None) -> Mapping[str, str]:
    """The header for a conversation with this `prompt_cache_key`; empty where there is none."""
    if dialect.session_header is None or cache_key is None:
        return NO_HEADERS
    if not _PLAIN_ID.fullmatch(cache_key):
        cache_key = hashlib.sha256(cache_key.encode("utf-8", "surrogatepass")).hexdigest()
    return {dialect.session_header: cache_key}
