"""Requests to a service with a store: what is refused, what is cut, and what is not there yet."""

from __future__ import annotations

import pytest

from tests.service.chat_bodies import chunk
from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream, say_hello
from translator import Translation, TranslatorError
from translator.service.store.part import Part

from .storing import Service, ask, messages, refused

pytestmark = pytest.mark.anyio


async def test_parent_incomplete(service: Service, upstream: ScriptedUpstream) -> None:
    """It can be continued; the call that the limit cut gets an output in the model's eyes."""

    async def cut(call: Call) -> None:
        await call.head()
        function = {"name": "f", "arguments": '{"a": 1'}
        await call.send(
            chunk({"content": "Well."}),
            chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}),
            chunk({}, "length"),
            b"data: [DONE]\n\n",
        )
        await call.end()

    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    async with service() as client:
        upstream.script = cut
        first = await ask(client, tools=[tool], stream=True)
        assert first["status"] == "incomplete"
        upstream.script = say_hello
        second = await ask(client, input="Go on.", previous_response_id=first["id"], tools=[tool])
        assert second["status"] == "completed"
    asked = messages(upstream.calls[-1])
    assert asked[1]["content"] == "Well."
    calls = [call["id"] for one in asked for call in one.get("tool_calls") or ()]
    assert calls == [one["tool_call_id"] for one in asked if one["role"] == "tool"]
    assert asked[-1] == {"role": "user", "content": "Go on."}


async def test_empty_input_without(service: Service, upstream: ScriptedUpstream) -> None:
    """Without a parent there is nothing to say; with one there is."""
    async with service() as client:
        status, error = await refused(client, input=[])
        assert (status, error["param"]) == (400, "input")
        first = await ask(client)
        await ask(client, input=[], previous_response_id=first["id"])
    assert [one["role"] for one in messages(upstream.calls[-1])] == ["user", "assistant"]


async def test_metadata_17_pairs(service: Service, upstream: ScriptedUpstream) -> None:
    async with service() as client:
        for faulty in ({str(n): "x" for n in range(17)}, {"k" * 65: "x"}, {"k": "x" * 513}):
            status, error = await refused(client, metadata=faulty)
            assert (status, error["param"].partition(".")[0]) == (400, "metadata")
        await ask(client, metadata={"k" * 64: "x" * 512})
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_get_while_foreground_runs(
    service: Service, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """It is not there before its end."""
    before: list[int] = []
    end = Part.end
    async with service() as client:

        async def looked_at(part: Part, translation: Translation) -> TranslatorError | None:
            answer = await client.get(f"{PATH}/{translation.response.id}")
            before.append(answer.status_code)
            return await end(part, translation)

        monkeypatch.setattr(Part, "end", looked_at)
        response = await ask(client, stream=stream)
        assert before == [404]
        assert (await client.get(f"{PATH}/{response['id']}")).json() == response
