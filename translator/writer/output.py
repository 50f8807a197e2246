"""What a response is beside its open items: its closed items, and the ids of its calls."""

from __future__ import annotations

from collections.abc import Callable, Collection

from translator.common.tools import REPEAT_MARK
from translator.wire.items import OutputItem

from .open_items import OpenReasoning


class Output:
    """The items in their two versions: as the client is shown them, and as they are kept."""

    __slots__ = ("kept", "shown")

    def __init__(self, *, keeps: bool) -> None:
        """`keeps`: there is a second version, in which all reasoning is sealed."""
        self.shown: list[OutputItem] = []
        self.kept: list[OutputItem] | None = [] if keeps else None

    def add(self, item: OutputItem, closed: object) -> None:
        """Add a closed item; `closed` is the open item that it was."""
        self.shown.append(item)
        if self.kept is not None:
            sealed = closed.kept if isinstance(closed, OpenReasoning) else None
            self.kept.append(sealed or item)

    def cut(self, count: int) -> None:
        """Take back all items but the first ones."""
        del self.shown[count:]
        if self.kept is not None:
            del self.kept[count:]


class CallIds:
    """The ids of calls, of the request's history and of the answer; each is unique."""

    __slots__ = ("_ids", "_new_id", "_repeats")

    def __init__(self, known: Collection[str], new_id: Callable[[str], str]) -> None:
        self._ids = dict.fromkeys(known) if known else {}
        self._new_id = new_id
        self._repeats: dict[str, int] = {}  # how often an id has come

    def unique(self, given: str | None) -> str:
        """The upstream's id, or a new one; made unique when the upstream repeats itself."""
        call_id = first = given or self._new_id("call_")
        while call_id in self._ids:
            self._repeats[first] = number = self._repeats.get(first, 1) + 1
            call_id = f"{first}{REPEAT_MARK}{number}"
        self._ids[call_id] = None
        return call_id
