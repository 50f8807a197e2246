"""What a turn needs of a store: the context of its request, and a place for its response.

Implemented by `service.store`, where the settings have a store; the turns know it by this alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Raw

from translator import Translation
from translator.request.store_context import StoreContext
from translator.service.observe.context import RequestContext
from translator.wire.errors import TranslatorError
from translator.wire.responses import Request


class Keeping(Protocol):
    """The store's part in one turn."""

    earlier: Sequence[Raw] | None
    """The context of the request; None where it names no response before."""

    context: StoreContext

    def forget_earlier(self) -> None:
        """Release the context."""
        ...

    async def end(self, translation: Translation) -> TranslatorError | None:
        """Store the final response, before its last event is sent.

        Not in the background, where that is left to whoever produces it. The error is for the
        client, in place of that event.
        """
        ...

    async def leave(self, translation: Translation | None) -> None:
        """The turn is over, and `end` was not called: its client left, or it failed before.

        Nothing comes from the upstream any more. `translation` is that of the latest attempt; None
        where the request was refused before there was one.
        """
        ...


class ResponseStore(Protocol):
    """A store of responses."""

    async def begin(
        self,
        context: RequestContext,
        request: Request,
        *,
        authorization: str | None,
        earlier: Sequence[Raw] | None,
        keeps: bool,
        may_run: bool = False,
    ) -> Keeping | None:
        """The store's part in a turn; None where it has none.

        `earlier` is the context where it is known already, and is not stored; `keeps`: the response
        may be stored; `may_run`: it may be produced in the background. Raises InvalidRequest for a
        response or an item that is not found, and StoreUnavailable.
        """
        ...
