"""The token counter: the tokens of a chat request before it is sent, for `input_tokens`.

    exact       by the upstream's own tokenizer and chat template, where its dialect has them
    estimate    a token per four bytes of text, as clients are charged in advance

An upstream whose tokenizer is missing, silent or of another mind gives no error: it is an estimate
then. So is a request with images, files or sound, of which tokenizers count only the placeholder.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator.common.pauses import Pause, no_pause, paced
from translator.service.access.cost import MAX_TOKENS, tokens_of
from translator.service.config.settings import Upstream
from translator.service.models.table import Route
from translator.wire.errors import TranslatorError, UpstreamError
from translator.wire.json_values import NOT_JSON, as_list, as_object, utf8_size

from .bounds import TurnBounds
from .slices import LARGE_BYTES

T = TypeVar("T")

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""Longest time that counting may take."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Largest answer of a tokenizer: a prompt of four million tokens, or two million of their ids."""

MISSING_S = 300.0
"""How long an upstream without a tokenizer is not asked again."""

SILENT_S = 30.0
"""How long one whose tokenizer could not be reached, or took too long, is not."""

TOKENS_PER_MESSAGE = 4
"""What a chat template writes around a message."""

TOKENS_PER_PART = 1000
"""What an image, a file or a piece of sound is taken for."""

_COUNTED = ("model", "messages", "tools", "chat_template_kwargs")
_NO_TEXT = frozenset("role type id tool_call_id index signature encrypted data format".split())
_NOT_THERE = frozenset({404, 405, 501})


class TokenCount(Struct, frozen=True):
    """The tokens of a request, and whether the upstream itself has counted them."""

    tokens: int
    exact: bool


class _Counted(Struct, frozen=True):
    count: int  # vLLM


class _Prompt(Struct, frozen=True):
    prompt: str  # llama.cpp


class _Tokens(Struct, frozen=True):
    tokens: list[Raw]


_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_list = msgspec.json.Decoder(list[Raw]).decode
_read_counted = msgspec.json.Decoder(_Counted).decode
_read_prompt = msgspec.json.Decoder(_Prompt).decode
_read_tokens = msgspec.json.Decoder(_Tokens).decode


class _Missing(Exception):
    """The upstream has no such endpoint."""


class TokenCounter:
    """Counts the tokens of chat requests."""

    def __init__(self, bounds: TurnBounds) -> None:
        self._bounds = bounds
        self._not_before: dict[str, float] = {}  # by the names of upstreams

    async def count(self, route: Route, body: bytes, authorization: str | None) -> TokenCount:
        """The tokens of a chat request, which is JSON of ours; `authorization` is the client's."""
        fields, messages, parts = await self._in_slices(body, partial(_read, body))
        if not parts:
            tokens = await self._exact(route, fields, body, authorization)
            if tokens is not None:
                return TokenCount(tokens, exact=True)
        text = await self._in_slices(body, partial(_text_size, messages))
        text += sum(len(fields[name]) for name in ("tools", "response_format") if name in fields)
        tokens = tokens_of(text) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_PART * parts
        return TokenCount(max(1, tokens), exact=False)

    async def _in_slices(self, body: bytes, work: Callable[[Pause], T]) -> T:
        if len(body) < LARGE_BYTES:
            return work(no_pause)
        return await self._bounds.slices.run(work)

    async def _exact(
        self, route: Route, fields: dict[str, Raw], body: bytes, authorization: str | None
    ) -> int | None:
        """The upstream's own count; None where there is none."""
        upstream, endpoint = route.upstream, route.dialect.token_endpoint
        now = self._bounds.timer()
        if endpoint is None or now < self._not_before.get(upstream.name, now):
            return None
        call = _Call(self._bounds, _at_root(upstream), authorization)
        try:
            if endpoint == "tokenize":
                answer = await call.post("tokenize", _tokenize_request(fields))
                tokens = _read_counted(answer).count
            else:
                prompt = _read_prompt(await call.post("apply-template", body)).prompt
                request = {"content": prompt, "add_special": True, "parse_special": True}
                named = {"model": fields["model"]} if "model" in fields else {}
                answer = await call.post("tokenize", msgspec.json.encode(named | request))
                tokens = len(_read_tokens(answer).tokens)
        except _Missing:
            log.warning("upstream %s has no tokenizer: tokens are estimated", upstream.name)
            self._not_before[upstream.name] = now + MISSING_S
        except UpstreamError as error:
            log.warning("upstream %s: tokens are estimated: %s", upstream.name, error.code)
            self._not_before[upstream.name] = now + SILENT_S
        except TranslatorError:  # the service itself is short of something, or about to end
            pass
        except NOT_JSON:
            pass
        else:
            return tokens if 0 < tokens <= MAX_TOKENS else None
        return None


class _Call:
    """The requests of one count, with one deadline for all of them."""

    def __init__(self, bounds: TurnBounds, upstream: Upstream, authorization: str | None) -> None:
        self._bounds = bounds
        self._upstream = upstream
        self._authorization = authorization
        self._deadline = asyncio.get_running_loop().time() + TIMEOUT_S

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer; empty where it is an error of this request alone.

        Raises _Missing, and TranslatorError.
        """
        opening = self._bounds.upstreams.open(
            self._upstream, path, body=body, authorization=self._authorization
        )
        async with self._bounds.stream(opening, self._deadline) as stream:
            answer = await stream.answer()
            if answer.status in _NOT_THERE:
                raise _Missing
            read = bytearray()
            while answer.status == 200 and (chunk := await stream.next()):
                read += chunk
                if len(read) > MAX_ANSWER_BYTES:
                    return b""
        return bytes(read)


def _at_root(upstream: Upstream) -> Upstream:
    """The upstream with the addresses of what is no part of OpenAI's API: without `/v1`."""
    first, *others = (url.removesuffix("/v1") for url in upstream.urls)
    return replace(upstream, base_url=first, fallback_urls=tuple(others))


def _tokenize_request(fields: dict[str, Raw]) -> bytes:
    """The request of vLLM's `/tokenize`: what its chat template reads of a chat request."""
    request: dict[str, Any] = {name: fields[name] for name in _COUNTED if name in fields}
    if "reasoning_effort" in fields:
        given = fields.get("chat_template_kwargs", Raw(b"{}"))
        effort = {"reasoning_effort": fields["reasoning_effort"]}
        request["chat_template_kwargs"] = _read_fields(given) | effort
    return msgspec.json.encode(request | {"add_generation_prompt": True})


def _read(body: bytes, pause: Pause) -> tuple[dict[str, Raw], list[object], int]:
    """The fields of a chat request, its messages, and their parts that no tokenizer counts."""
    fields = _read_fields(body)
    pause()
    raw = _read_list(fields.get("messages", b"[]"))
    messages = [msgspec.json.decode(one) for one in paced(raw, pause)]
    return fields, messages, sum(map(_media_parts, paced(messages, pause)))


def _media_parts(message: object) -> int:
    """How many parts of a message are neither text nor a refusal."""
    parts = as_list((as_object(message) or {}).get("content")) or ()
    kinds = [(as_object(part) or {}).get("type") for part in parts]
    return sum(kind not in ("text", "refusal") for kind in kinds)


def _text_size(messages: Iterable[object], pause: Pause) -> int:
    """Bytes of all that a chat template may write of messages; of other parts nothing."""
    size = 0
    rest: list[object] = list(messages)
    while rest:
        pause()
        one = rest.pop()
        if isinstance(one, str):
            size += utf8_size(one)
        elif (fields := as_object(one)) is not None:
            if fields.get("type") in ("image_url", "file", "input_audio", "video_url"):
                continue
            rest += [value for name, value in fields.items() if name not in _NO_TEXT]
        else:
            rest += as_list(one) or ()
    return size
