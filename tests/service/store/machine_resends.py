"""Resends in the model: a client sends the whole context of a response again, as its own input.

The service stores of it what is new, by digests of contexts. The model has none: whatever is seen of
such a response, its request upstream included, is what it would be without them.
"""

from __future__ import annotations

from tests.service.responses_api import PATH
from translator.service.database.statement import Statement

from .conversing import said
from .machine import Item, Pick, body_of, picked
from .machine_runs import RunningMachine

ITEMS = Statement("SELECT count(*) FROM resp_items")


class ResendingMachine(RunningMachine):
    """The machine with clients that keep the conversation themselves."""

    async def resend(
        self, owner: str, *, which: Pick, ids: bool, store: bool, streamed: bool, background: bool
    ) -> None:
        """A context with its answer, and a question; some clients leave out `ids`."""
        before = picked(self.responses, which)
        if before is None or before.failed:
            return
        history = [*before.saw, *before.items]
        question = said(f"Question {next(self.number)}")
        source = [*(history if ids else map(without_id, history)), question]
        fields: Item = {"model": "m", "include": ["reasoning.encrypted_content"], "input": source}
        fields |= {} if store else {"store": False}
        fields |= {"background": True} if background else {"stream": streamed}
        was, stored = self.rows(), self.items_stored()
        self.script.finish = "stop"
        asked = len(self.upstream.calls)
        answer = await self.post(owner, PATH, fields)
        assert answer.status_code == 200, answer.text
        body = await self.polled(owner, answer.json()) if background else body_of(answer, streamed)
        assert (body["status"], body["previous_response_id"]) == ("completed", None)
        chat = self.upstream.calls[asked].body
        await self.check_twin(owner, [*history, question], streamed or background, chat)
        self.check_prefix(before, chat)
        if not store:
            assert background or self.rows() == was
            return
        if before.digested and self.is_found(before, owner):
            assert self.items_stored() - stored <= 1 + len(body["output"])
        await self.remember(owner, body, None, None, [], source, chat)
        shown = self.responses[-1].given
        assert [one["id"] for one in shown] == [
            sent.get("id", own["id"]) for sent, own in zip(source, shown, strict=True)
        ]

    def items_stored(self) -> int:
        [(count,)] = self.connection.execute(ITEMS)
        return int(count)


def without_id(item: Item) -> Item:
    """An item as a client sends it that leaves ids out where they are not needed."""
    needed = item["type"] == "reasoning"  # it is sealed
    return {name: value for name, value in item.items() if name != "id" or needed}
