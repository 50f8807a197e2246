"""Preparation for an answer: its writer, its reader, and its rounds where it may have several.

It is put off until the request is on its way: nothing of it is needed before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .common.hosted import Hosted
from .common.pauses import Pause
from .dialects import Dialect
from .options import Options
from .reader.from_chat import ChatReader
from .request.echo import first_response
from .request.to_chat import ChatRequest, Target, returns_reasoning
from .wire import responses
from .wire.notices import Notice
from .writer.stream import ResponseStream

if TYPE_CHECKING:
    from .request.store_context import StoreContext
    from .rounds import Rounds


_REMEMBERED = ("model", "stream", "generate", "max_output_tokens", "temperature", "top_p")


def remembered(request: responses.Request) -> responses.Request:
    """The fields of a request that are needed until its answer has ended."""
    return responses.Request(**{name: getattr(request, name) for name in _REMEMBERED})


class Unprepared(Struct, frozen=True):
    """What the writer and the reader of an answer are made from."""

    chat_request: ChatRequest
    target: Target
    options: Options
    response_id: str
    created_at: int
    new_id: Callable[[str], str]
    now: Callable[[], int] | None
    store: StoreContext | None
    hosted: Hosted | None
    """The hosted tools that run here; None where none of them is declared."""

    rounds: Rounds | None
    """Those of the response, after the first one."""

    def reader(self, request: responses.Request, dialect: Dialect) -> ChatReader:
        """The reader of the upstream's answer."""
        chat_request = self.chat_request
        return ChatReader(
            dialect.for_model(self.target.model or request.model or ""),
            chat_request.tools.declares,
            max_calls=self.options.max_output_items,
            output_limit=chat_request.output_limit,
            prefill=chat_request.prefill,
        )

    def writer(
        self, request: responses.Request, notices: tuple[Notice, ...], pause: Pause
    ) -> tuple[ResponseStream, Rounds | None]:
        """The writer of the response, and its rounds."""
        chat_request, rounds = self.chat_request, self.rounds
        if rounds is not None:
            rounds.stream.begin_round(
                tools=chat_request.tools,
                allowed=rounds.allowed(chat_request.allowed),
                origin=self.target.origin,
                is_last=rounds.is_last,
            )
            return rounds.stream, rounds
        first = first_response(
            request,
            response_id=self.response_id,
            created_at=self.created_at,
            model=request.model or self.target.model or "",
            store=self.store,
            output_limit=self.target.max_output_tokens,
            pause=pause,
        )
        given: dict[str, Any] = {
            "new_id": self.new_id,
            "now": self.now or (lambda: self.created_at),
            "tools": chat_request.tools,
            "reasoning_events": self.options.reasoning_events,
            "seal_reasoning": returns_reasoning(request),
            "keeps": (self.store is not None and self.store.keeps)
            or (self.hosted is not None and self.hosted.keeps),
            "one_call": chat_request.one_call,
            "allowed": chat_request.allowed,
            "known_call_ids": chat_request.call_ids,
            "max_items": self.options.max_output_items,
            "origin": self.target.origin,
        }
        if self.hosted is None:
            return ResponseStream(first, **given), None
        from .rounds import Rounds  # few programs run tools
        from .writer.hosted_items import Shown
        from .writer.round_stream import RoundStream

        include = request.include or ()
        hosted, store = self.hosted, self.store
        if store is not None and store.keeps:
            hosted = hosted.stored_within(store.max_item_bytes)
        stream = RoundStream(
            first,
            hosted=hosted,
            shown=Shown(responses.INCLUDE_SOURCES in include, responses.INCLUDE_RESULTS in include),
            last_source=chat_request.last_source,
            **given,
        )
        return stream, Rounds(hosted, request, notices, stream)
