"""Secrets in tools: they are not repeated in the response object."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tests.invariants import check_response_types
from translator import InvalidRequest
from translator.common.tool_secrets import secrets_of, without_secrets

from .test_echo import first

MCP: dict[str, Any] = {
    "type": "mcp",
    "server_label": "files",
    "authorization": "planted-token",
    "headers": {"x-api-key": "planted-header"},
    "server_url": "https://me:planted-password@mcp.test:8443/sse?key=planted-query#planted",
    "require_approval": "never",
}
SHELL: dict[str, Any] = {
    "type": "shell",
    "environment": {
        "type": "container_auto",
        "network_policy": {
            "type": "allowlist",
            "allowed_domains": ["a.test"],
            "domain_secrets": [{"domain": "a.test", "name": "T", "value": "planted-value"}],
        },
    },
}


def public(tool: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(without_secrets(Raw(msgspec.json.encode(tool))))
    return found


def test_an_mcp_tool_is_repeated_without_its_secrets() -> None:
    response = first(tools=[MCP], store=False)
    assert response["tools"] == [
        {
            "type": "mcp",
            "server_label": "files",
            "headers": None,
            "server_url": "https://mcp.test:8443/sse",
            "require_approval": "never",
        }
    ]
    check_response_types(response)


def test_secrets_are_found_at_any_depth() -> None:
    group = {"type": "namespace", "name": "n", "tools": [MCP, {"type": "function", "name": "f"}]}
    for tool in (group, SHELL):
        assert "planted" not in str(public(tool))
        assert public(public(tool)) == public(tool)
    assert public(group)["tools"][1] == {"type": "function", "name": "f"}


def test_a_tool_without_secrets_keeps_its_bytes() -> None:
    schema = {"properties": {"authorization": {"type": "string"}, "headers": {}}}
    for tool in (
        {"type": "function", "name": "f", "parameters": schema},
        {"type": "custom", "name": "c", "headers": 1},
        {"type": "mcp", "server_label": "a", "server_url": "https://a.test/sse"},
    ):
        raw = Raw(msgspec.json.format(msgspec.json.encode(tool), indent=1))
        assert without_secrets(raw) is raw


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.test", "https://a.test"),
        ("https://a.test?k=v", "https://a.test"),
        ("me:secret@a.test/x", "a.test/x"),
        ("https://a.test/p#f?q@x", "https://a.test/p"),
        ("https://a.test/x?u=b://c@d", "https://a.test/x"),
        (7, None),
    ],
)
def test_a_url_keeps_its_address(url: object, shown: str | None) -> None:
    assert public({"type": "mcp", "server_url": url})["server_url"] == shown


def test_the_secrets_of_a_tool_can_be_collected() -> None:
    raw = Raw(msgspec.json.encode({"type": "namespace", "tools": [MCP, SHELL, {"type": "custom"}]}))
    assert secrets_of(raw) == {
        "authorization": ["planted-token"],
        "headers": [{"x-api-key": "planted-header"}],
        "server_url": [MCP["server_url"]],
        "domain_secrets": [[{"domain": "a.test", "name": "T", "value": "planted-value"}]],
    }


def test_a_tool_that_is_nested_too_deeply_is_refused() -> None:
    deep = Raw(b'{"type":"mcp","a":' + b"[" * 900 + b"]" * 900 + b"}")
    with pytest.raises(InvalidRequest):
        without_secrets(deep)
