"""Declarations of MCP servers as a program reads them, and what an input knows of their tools."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from tests.mcp_rounds import ASKING, LISTED, LISTING, REQUEST, SERVER, adds, hosted
from tests.rounds import FUNCTION, body_of, call, play, replayed, turn
from tests.test_rounds import tool_messages
from translator import InvalidRequest
from translator.common.hosted import McpListing
from translator.common.mcp import read_declarations
from translator.request.mcp_history import listed_in, pending_calls

MENTION = {**FUNCTION, "description": 'not "mcp"', "name": "x"}


def raws(*values: Any) -> list[Raw]:
    return [Raw(json.dumps(one).encode()) for one in values]


def test_the_declarations_of_a_request() -> None:
    other = {"type": "mcp", "server_label": "other"}
    [(path, one), (second, _)] = read_declarations(raws(MENTION, SERVER, FUNCTION, other))
    assert (path, second) == ("tools[1]", "tools[3]")
    assert one.server_url == SERVER["server_url"]
    assert "planted" not in repr(one)
    with pytest.raises(InvalidRequest, match="Duplicate server_label") as raised:
        read_declarations(raws(SERVER, SERVER))
    assert raised.value.param == "tools[1].server_label"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {}),
        ({"authorization": "token"}, {"authorization": "Bearer token"}),
        ({"authorization": "Basic dXNlcg=="}, {"authorization": "Basic dXNlcg=="}),
        ({"headers": {"X-Key": "a", "Authorization": "own"}, "authorization": ""}, {"x-key": "a", "authorization": "own"}),
        ({"headers": {"Authorization": "own"}, "authorization": "token"}, {"authorization": "Bearer token"}),
    ],
)  # fmt: skip
def test_the_headers_that_a_server_is_sent(given: Any, sent: dict[str, str]) -> None:
    [(_, one)] = read_declarations(raws({**ASKING, **given}))
    assert one.sent_headers == sent


def test_a_server_that_was_not_listed_is_left_out() -> None:
    body = body_of(REQUEST, hosted=hosted(label="other"))
    assert "tools" not in body


def test_the_lists_in_an_input() -> None:
    lists = [
        {"type": "mcp_list_tools", "id": LISTED, "server_label": "math", "tools": []},
        {
            "type": "mcp_list_tools",
            "id": LISTED,
            "server_label": "failed",
            "tools": [],
            "error": "e",
        },
        {"type": "mcp_list_tools", "id": LISTED, "tools": []},
        {"role": "user", "content": "mcp_list_tools"},
    ]
    newer = {**lists[0], "tools": [{"name": "add"}]}
    found = listed_in(raws(newer), raws(*lists))
    assert {label: json.loads(bytes(raw)) for label, (raw, _) in found.items()} == {"math": newer}
    assert found["math"][1] == "input[0]"
    assert listed_in(raws({"role": "user", "content": "words"}), ()) == {}
    assert listed_in("words", ()) == {}
    assert pending_calls("words", ()) == ([], [])


def test_odd_errors_and_seals_in_an_input() -> None:
    given = [
        {"type": "reasoning", "summary": [], "encrypted_content": "of another server"},
        {"type": "mcp_call", "name": "add", "server_label": "math", "error": {"content": [{"type": "text", "text": "a"}, 7]}},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False},
    ]  # fmt: skip
    with pytest.raises(InvalidRequest, match="No approval request"):
        pending_calls(raws(*given), ())
    body = body_of(replayed(REQUEST, given), hosted=hosted(McpListing(LISTING.tools)))
    assert tool_messages(body) == ["a"]


def test_a_call_that_would_wait_is_cut() -> None:
    """It is neither asked about nor run."""
    request = {**REQUEST, "tools": [ASKING]}
    found = play(request, [turn(call("math__add", a=1), finish="length")], adds, hosted=hosted())
    assert found.output[-1]["status"] == "incomplete"
    assert not [one for one in found.output if one["type"] == "mcp_approval_request"]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"require_approval": {"nevr": {"tool_names": ["add"]}}}, "require_approval.nevr"),
        ({"require_approval": {"never": {"tools": ["add"]}}}, "require_approval.never.tools"),
        ({"require_approval": {"never": {"tool_names": ["add"], "readonly": True}}}, "require_approval.never.readonly"),
        ({"require_approval": {"never": {}}}, "require_approval.never"),
        ({"require_approval": {"always": {}}}, "require_approval.always"),
        ({"require_approval": {"never": {"tool_names": None}}}, "require_approval.never.tool_names"),
        ({"require_approval": {"never": {"tool_names": None, "read_only": True}}}, "require_approval.never.tool_names"),
        ({"require_approval": {"never": {"read_only": None}}}, "require_approval.never"),
        ({"require_approval": {"never": ["add"]}}, "require_approval.never"),
        ({"require_approval": "nevr"}, "require_approval"),
        ({"allowed_tools": {}}, "allowed_tools"),
        ({"allowed_tools": {"tool_name": ["add"]}}, "allowed_tools.tool_name"),
        ({"allowed_tools": {"tool_names": None}}, "allowed_tools.tool_names"),
        ({"allowed_tools": {"tool_names": "add"}}, "allowed_tools.tool_names"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_filter_is_an_error(given: Any, param: str) -> None:
    """Taken for no filter, it would let tools run unasked."""
    with pytest.raises(InvalidRequest) as raised:
        read_declarations(raws(FUNCTION, {**ASKING, **given}))
    assert raised.value.param == f"tools[1].{param}"


@pytest.mark.parametrize(
    ("rule", "asks"),
    [
        ({"never": {"tool_names": []}}, {"add", "write"}),
        ({"never": {"tool_names": ["add"], "read_only": None}, "always": None}, {"write"}),
        ({"never": {"read_only": True}}, {"write"}),
        ({"always": {"tool_names": ["add"]}}, {"add", "write"}),
        ({"always": {"tool_names": ["add"]}, "never": {"tool_names": ["add", "write"]}}, {"add"}),
        ({}, {"add", "write"}),
    ],
)
def test_which_calls_the_client_approves_of(rule: Any, asks: set[str]) -> None:
    [(_, one)] = read_declarations(raws({**ASKING, "require_approval": rule}))
    assert {tool.name for tool in LISTING.tools if one.asks(tool)} == asks
