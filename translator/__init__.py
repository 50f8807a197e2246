"""Translates OpenAI's Responses API to Chat Completions: a request one way, its response back.

The library opens no socket, reads no clock and draws no random number. A program sends the chat
request, and passes in ids and times. One `Translation` is one request with its response:

    import secrets, time
    import httpx, translator

    def respond(body: bytes):  # the body of POST /v1/responses, with "stream": true
        t = translator.Translation(
            body,
            dialect="fireworks",
            response_id="resp_" + secrets.token_hex(24),
            created_at=int(time.time()),
            new_id=lambda prefix: prefix + secrets.token_hex(24),
        )
        with httpx.stream("POST", URL, content=t.chat_body, headers=HEADERS) as upstream:
            if upstream.status_code >= 400:
                raise translator.read_upstream_error(upstream.status_code, upstream.read())
            yield from map(translator.encode_sse, t.start())
            for data in upstream.iter_bytes():
                yield from map(translator.encode_sse, t.receive(data))
        yield from map(translator.encode_sse, t.close())
        yield translator.DONE

`examples/library.py` is the whole program: not streamed, too, with timeouts, broken connections,
limits and aliases of models.

Request
    `Translation(body, ...)` parses and translates a request, as bytes or as a dict. `dialect` is a
    name in `DIALECTS` or a `Dialect`; `Target` holds the upstream's model id and its limits,
    `Options` how the operator wants requests to be translated. It raises InvalidRequest, with the
    path of the field in `param`, and KeyError for an unknown dialect.
    `parse_request(body)` is for a program that needs the request first, to choose an upstream: it
    returns a `ParsedRequest`, with the request in `request`, which `Translation` takes in place of
    the body and does not decode again.
    `t.chat_body` is the body to POST to /chat/completions, as bytes. `t.notices` lists what was
    lost, as `Notice(path, code, message)`.
    For a model that takes text only, `Target.descriptions` may have texts in place of images;
    `t.undescribed` lists the images that it lacks, as `UndescribedImage`, for a program that has
    them described and translates again.
    `t.request` is the parsed request; `t.wants_answer` is False for one with `generate: false`,
    which is not sent: `t.skip()` returns all its events.

Streaming response
    `t.start()`, then `t.receive(data)` for each chunk of the upstream's body, cut anywhere, then
    `t.close()`. Each returns a list of `Event` structs, in the order in which the client gets them;
    none of them raises. `encode_sse(event)` is an event as server-sent event bytes, `DONE` the end
    of the stream.
    Exactly one terminal event ends a response: response.completed, response.incomplete or
    response.failed. It comes from `receive` when the upstream sends [DONE] or an error, else from
    `close`; after it `t.finished` is True and no method returns another event. `t.close(error)`
    ends a response whose connection broke, with an `error` event and response.failed.
    `t.heartbeat()` is an event that keeps a silent stream open.
    `t.response` is the response so far, final after the terminal event. `t.error` is the
    UpstreamError of a failed one.

Whole response
    `t.complete(body)` returns the `Response` for the whole body of the upstream, JSON or a stream.
    It raises UpstreamError for a body that is an error or no chat completion.
    `encode_json(response)` is its JSON.

Errors
    Each is a TranslatorError: `status_hint` is the HTTP status for the client, `envelope()` the
    JSON body, `headers` the headers, such as Retry-After.
    InvalidRequest (400), NotFound (404), RequestTooLarge (413): the client's fault.
    UpstreamError (502 or the upstream's status), UpstreamTimeout (504), AnswerTooLarge (502: over
    one of the limits in `Options`), CredentialRefused (502: the upstream refused the program's own
    key), AccountEmpty (502: its account there has no credit): the upstream's.
    `read_upstream_error(status, body)` returns the UpstreamError for any error body that upstreams
    send. The library raises InvalidRequest, NotFound and UpstreamError; the others are for programs
    to raise, or to pass to `t.close(error)`.
    Before the first event an error is an HTTP response; after it, it is an event.

Hosted tools
    `Translation(body, ..., hosted=Hosted(...))` lets a program run `web_search` itself. Then a
    response may take several upstream turns, each with a translation of its own. `t.round_over`
    says that a turn is over. Until `t.finished`, `t.rounds.todo` has the calls to run, each a
    `HostedCall`; `t.ran(call.key, Outcome(...))` returns the events of one. Then `Translation(body,
    ..., rounds=t.rounds)` is the next turn. `translator.rounds` has the whole loop.

Compaction
    `CompactRequest(body)` is a request to /v1/responses/compact. Translate its `body` like any
    other request; `c.answer(t.response, new_id=...)` is the `CompactedResponse` for the client.
"""

from __future__ import annotations

import msgspec

from . import dialects
from .common.hosted import Hosted, HostedCall, Outcome
from .dialects import DIALECTS, Dialect
from .options import Options
from .reader.upstream_errors import read_upstream_error
from .request.compact_request import CompactedResponse, CompactRequest
from .request.content import UndescribedImage
from .request.parse import ParsedRequest, parse_request
from .request.to_chat import Target
from .translation import Translation
from .wire.errors import (
    AccountEmpty,
    AnswerTooLarge,
    CredentialRefused,
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
    "AccountEmpty",
    "AnswerTooLarge",
    "CompactRequest",
    "CompactedResponse",
    "CredentialRefused",
    "Dialect",
    "Event",
    "Hosted",
    "HostedCall",
    "InvalidRequest",
    "NotFound",
    "Notice",
    "Options",
    "Outcome",
    "ParsedRequest",
    "RequestTooLarge",
    "Response",
    "Target",
    "Translation",
    "TranslatorError",
    "UndescribedImage",
    "UpstreamError",
    "UpstreamTimeout",
    "__version__",
    "dialects",
    "encode_json",
    "encode_sse",
    "parse_request",
    "read_upstream_error",
]

__version__ = "0.1.0"

_encoder = msgspec.json.Encoder()


def encode_json(response: Response | CompactedResponse | Event) -> bytes:
    """A response or an event as JSON, on one line."""
    return _encoder.encode(response)
