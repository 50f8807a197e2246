"""What a store knows of a request, and does with its response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Raw, Struct

from translator.wire.notices import Notice


class StoreContext(Struct, frozen=True):
    """The part of a store in the translation of one request.

    `keeps`: the response will be stored. `runs_in_background`: a request for the background may be
    answered there. `conversation` is the id of the stored conversation that the request goes on
    from. `resolved` are stored items, by the ids that references of the input name; a
    reference to any other is refused. `duplicates` are the ids of input items that stand in the
    context already, by their indexes: they are left out. `completed` are items to read in place of
    one of the input, by its index: the same with the reasoning that the client has left out.
    `max_item_bytes` is the size of the largest item that it keeps; None: any. `notices` are the
    store's own.
    """

    keeps: bool = False
    runs_in_background: bool = False
    conversation: str | None = None
    resolved: Mapping[str, Raw] = {}
    duplicates: Mapping[int, str] = {}
    completed: Mapping[int, Sequence[Raw]] = {}
    max_item_bytes: int | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def precedes(self) -> str:
        """The field of the request that names what precedes its input."""
        return "previous_response_id" if self.conversation is None else "conversation"
