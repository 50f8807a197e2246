"""translator: the Responses API in front of upstreams that speak only Chat Completions.

The pure core. It opens no socket, reads no clock and draws no random number: ids and times are
arguments.

    t = translator.Translation(request, dialect="fireworks", response_id=…, created_at=…, new_id=…)
    t.chat_body                    bytes to POST upstream; t.notices: what was dropped or weakened
    t.start()                      events, each a struct; translator.encode_sse(event) -> bytes
    t.receive(upstream_bytes)      events; the bytes may be cut anywhere
    t.close()                      the last events, when the upstream's body has ended
    t.response                     the Response so far; final after close()
    t.complete(json_body)          without streaming, same result

    p = translator.parse_request(body)        once, for a program that needs the request before
    p.request.model                           translator.Translation(p, …) does not decode it again

    c = translator.CompactRequest(request)    of /v1/responses/compact; c.body is to be translated
    c.answer(t.response, new_id=…)            the client's response
"""

from __future__ import annotations

import msgspec

from . import dialects
from .dialects import DIALECTS, Dialect
from .reader.upstream_errors import read_upstream_error
from .request.compact_request import CompactedResponse, CompactRequest
from .request.to_chat import ParsedRequest, Target
from .request.to_chat import read_request as parse_request
from .translation import Options, Translation
from .wire.errors import (
    InvalidRequest,
    NotFound,
    RequestTooLarge,
    TranslatorError,
    UpstreamError,
    UpstreamTimeout,
)
from .wire.events import Event
from .wire.notices import Notice
from .wire.responses import Response
from .writer.sse import DONE
from .writer.sse import encode as encode_sse

__all__ = [
    "DIALECTS",
    "DONE",
    "CompactRequest",
    "CompactedResponse",
    "Dialect",
    "Event",
    "InvalidRequest",
    "NotFound",
    "Notice",
    "Options",
    "ParsedRequest",
    "RequestTooLarge",
    "Response",
    "Target",
    "Translation",
    "TranslatorError",
    "UpstreamError",
    "UpstreamTimeout",
    "dialects",
    "encode_json",
    "encode_sse",
    "parse_request",
    "read_upstream_error",
]

_encoder = msgspec.json.Encoder()


def encode_json(response: Response | CompactedResponse | Event) -> bytes:
    """A response or an event as JSON, on one line."""
    return _encoder.encode(response)
