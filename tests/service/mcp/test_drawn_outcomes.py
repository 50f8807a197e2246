"""Whatever an MCP server does when it is listed and called: the response keeps its invariants."""

from __future__ import annotations

import json
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from tests.invariants import check_response_types, check_wire
from tests.rounds import call, says, turn
from tests.service.tools.hosting import Model, frames

from .hosting import SECRETS, asking, hosting
from .serving import Asked, Handler, Listener, McpScript, answer, hang

JSON = ("content-type", "application/json")
LIMIT = 20_000
TIMEOUT = -32001
FAULTY = {"jsonrpc": "2.0", "id": None, "error": {"code": -32602, "message": "a planted word"}}


async def breaks_off(scope: Scope, _receive: Receive, send: Send) -> None:
    """The connection is closed in the middle of an answer, as when the server dies."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


FAULTS: dict[str, Handler | None] = {
    "": None,
    "refuses": answer(401, b"planted-page"),
    "fails": answer(500, b"planted-page"),
    "says no": answer(400, json.dumps(FAULTY).encode(), JSON),
    "talks nonsense": answer(200, b'{"jsonrpc":"2.0","id":1,"result":[1]}', JSON),
    "hangs": hang,
    "breaks off": breaks_off,
}
LISTS = st.sampled_from(["", "", "", *FAULTS])
CALLS = st.sampled_from([*FAULTS, "is an error", "is large", "is too large", "has no arguments"])


def made(what: str, number: int) -> dict[str, Any]:
    """A call of the model that ends in this way; no two are the same, which would not be run."""
    name = f"call_{number}"
    match what:
        case "is an error":
            return call("math__fail", name, words=f"It broke. {number}")
        case "is large" | "is too large":
            times = 100_000 if what == "is large" else 17_000_000  # over `max_answer_bytes`
            return call("math__repeat", name, text=str(number), times=times)
        case "has no arguments":
            function = {"name": "math__add", "arguments": "[]"}
            return {"id": name, "type": "function", "function": function}
        case _:
            return call("math__write", name, text=str(number))


@given(
    LISTS,
    st.lists(CALLS, min_size=1, max_size=3),
    st.sampled_from(["fail", "go_on"]),
    st.booleans(),
)
@settings(max_examples=12)
def test_a_response_keeps_its_invariants(
    listener: Listener,
    lists: str,
    outcomes: list[str],
    list_failure: str,
    stream: bool,
) -> None:
    """H1, H2, H7 to H10, H12, H15; a list that cannot be had is a 424, or no tool is declared."""
    anyio.run(_check, listener, lists, outcomes, list_failure, stream)


async def _check(
    listener: Listener, lists: str, outcomes: list[str], list_failure: str, stream: bool
) -> None:
    model = Model(turn(*map(made, outcomes, range(3))), says("So."))

    def instead(asked: Asked) -> Handler | None:
        if asked.rpc == "tools/list":
            return FAULTS[lists]
        if asked.rpc != "tools/call" or asked.params["name"] != "write":
            return None
        return FAULTS.get(outcomes[int(asked.params["arguments"]["text"])])

    limits = {
        "list_timeout_s": 0.4 if lists == "hangs" else 20,
        "call_timeout_s": 0.4 if "hangs" in outcomes else 20,
        "list_failure": list_failure,
    }
    script = McpScript(listener)
    async with (
        script.running(),
        hosting(model, script, tools={"max_result_bytes": LIMIT}, mcp=limits) as client,
    ):
        script.instead = instead
        found = await client.post("/v1/responses", json={**asking(script), "stream": stream})
    assert not any(secret in found.text + json.dumps(model.bodies) for secret in SECRETS)
    assert "planted-page" not in found.text + json.dumps(model.bodies)
    if lists and list_failure == "fail":
        assert (found.status_code, model.bodies) == (424, [])
        return
    assert found.status_code == 200, found.text
    final = check_wire(frames(found.text)) if stream else found.json()
    check_response_types(final)
    if lists:
        calls = [one for one in final["output"] if one["type"] == "mcp_call"]
        assert [one["status"] for one in calls] == ["failed"] * len(outcomes)
        assert len(model.tool_messages(1)) == len(outcomes)
        assert "tools/call" not in script.methods
        return
    assert final["status"] == "completed"
    calls = [one for one in final["output"] if one["type"] == "mcp_call"]
    told = model.tool_messages(1)
    assert len(calls) == len(told) == len(outcomes)
    for item, text, outcome in zip(calls, told, outcomes, strict=True):
        late = (item["error"] or {}).get("code") == TIMEOUT  # one waits for all on this machine
        failed = late or outcome not in ("", "is large")
        assert late or outcome != "hangs"
        assert (item["status"] == "failed") is failed, (item, outcome)
        assert (item["error"] is None) is not failed
        assert item["output"] == (None if failed else text)
        assert 0 < len(text.encode()) <= LIMIT
    sent = script.methods.count("tools/call")
    assert sent == sum(outcome != "has no arguments" for outcome in outcomes)
    others = [one for body in model.bodies for one in body["messages"] if one["role"] != "tool"]
    assert "It broke." not in json.dumps([one.get("content") for one in others])
