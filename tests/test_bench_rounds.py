"""The benchmark of rounds measures only answers with the call that its row names."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from bench import rounds
from bench.targets import Unavailable

MESSAGE = {"type": "message"}
FUNCTION_CALL = {"type": "function_call", "call_id": "call_1"}


class Client:
    """A connection whose answers follow a script."""

    def __init__(self, *outputs: list[dict[str, Any]]) -> None:
        self.outputs = list(outputs)
        self.inputs: list[Any] = []

    def request(self, method: str, path: str, body: str, headers: dict[str, str]) -> None:
        assert (method, path, bool(headers)) == ("POST", "/v1/responses", True)
        self.inputs.append(json.loads(body)["input"])

    def getresponse(self) -> io.BytesIO:
        return io.BytesIO(json.dumps({"output": self.outputs.pop(0)}).encode())


def test_a_function_takes_two_requests() -> None:
    client: Any = Client([FUNCTION_CALL], [MESSAGE])
    rounds.answer(client, rounds.OWN)
    result = {"type": "function_call_output", "call_id": "call_1", "output": "3"}
    assert client.inputs == [[rounds.QUESTION], [rounds.QUESTION, FUNCTION_CALL, result]]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        (rounds.SEARCH, [MESSAGE]),
        (rounds.SEARCH, [{"type": "web_search_call", "status": "failed"}, MESSAGE]),
        (rounds.MCP, [{"type": "mcp_list_tools"}, MESSAGE]),
        (rounds.PLAIN, []),
    ],
)
def test_another_answer_is_not_measured(name: str, output: list[dict[str, Any]]) -> None:
    client: Any = Client(output)
    with pytest.raises(Unavailable, match=f"^{name}: "):
        rounds.answer(client, name)


def test_the_least_of_all_rounds_counts() -> None:
    section = rounds.report({rounds.PLAIN: [(900, 2000)], rounds.MCP: [(4000, 9000), (3900, 9500)]})
    assert "| 3.90 | 3.00 | 9.00 | 7.00 |" in section.table
    assert section.facts == {("round_cpu_us", rounds.PLAIN): 0, ("round_cpu_us", rounds.MCP): 3000}
