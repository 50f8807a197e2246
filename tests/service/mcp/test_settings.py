"""`[tools.mcp]`: what is read of it, and what is wrong with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.secrets import settings_secrets
from translator.service.config.settings import Settings, SettingsError

KEY = "planted-key-of-the-server"
ENVIRON = {"KEY": KEY}


def settings_of(tools: dict[str, Any]) -> Settings:
    return read_table(
        {
            "upstreams": {"up": {"base_url": "http://up.test/v1"}},
            "clients": {"ann": {"keys": [str(store(new_key()))]}},
            "tools": tools,
        },
        ENVIRON,
    )


def test_servers_and_bounds_are_told_apart() -> None:
    mcp = {
        "call_timeout_s": 5,
        "git": {"url": "https://git.test/mcp?token=planted-token", "key_env": "KEY"},
        "wiki": {
            "url": "http://10.0.0.7/mcp",
            "headers": {"X-Api-Key": "planted-header"},
            "clients": ["ann"],
        },
    }
    settings = settings_of({"mcp": mcp})
    assert settings.tools is not None
    found = settings.tools.mcp
    assert found is not None
    assert found.limits.call_timeout_s == 5
    assert found.servers["git"].headers == {"authorization": f"Bearer {KEY}"}
    assert found.servers["wiki"].headers == {"x-api-key": "planted-header"}
    assert found.servers["wiki"].clients == ("ann",)
    assert settings_secrets(settings) >= {KEY, "planted-token", "planted-header"}
    assert "planted" not in repr(settings.tools)


def test_without_servers_and_patterns_there_are_none() -> None:
    tools = settings_of({}).tools
    assert tools is not None
    assert tools.mcp is None
    allowed = settings_of({"allow": ["https://a.example"]}).tools
    assert allowed is not None
    assert allowed.mcp is not None


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ({"mcp": 7}, "tools.mcp: expected a table, as in [tools.mcp.NAME]"),
        ({"mcp": {"a b": {"url": "http://x.test"}}}, 'tools.mcp."a b": a name has at most 64 letters, digits, - and _'),
        ({"mcp": {"a": {}}}, "tools.mcp.a.url: is missing"),
        ({"mcp": {"a": {"url": "ws://x.test"}}}, "tools.mcp.a.url: expected a URL that starts with http:// or https://"),
        ({"mcp": {"a": {"url": "http://u:p@x.test"}}}, "tools.mcp.a.url: must not hold a user name or a password; use key_env or headers"),
        ({"mcp": {"a": {"url": "http://x.test/#f"}}}, "tools.mcp.a.url: must not have a fragment"),
        ({"mcp": {"a": {"url": "http://x test"}}}, "tools.mcp.a.url: contains a character not allowed in a URL"),
        ({"mcp": {"a": {"url": "http://[x"}}}, "tools.mcp.a.url: expected a URL that starts with http:// or https://"),
        ({"mcp": {"a": {"url": "http://x.test", "key_env": "NONE"}}}, "tools.mcp.a.key_env: the environment variable NONE is not set"),
        ({"mcp": {"a": {"url": "http://x.test", "key_env": "KEY", "headers": {"authorization": "x"}}}}, "tools.mcp.a.key_env: the headers have an Authorization, too"),
        ({"mcp": {"a": {"url": "http://x.test", "headers": {"Mcp-Session-Id": "x"}}}}, "tools.mcp.a.headers.mcp-session-id: is set by the protocol"),
        ({"mcp": {"a": {"url": "http://x.test", "clients": ["bob"]}}}, 'tools.mcp.a.clients: there is no client "bob"'),
        ({"mcp": {"call_timeout_s": 0}}, "tools.mcp.call_timeout_s: expected float > 0.0"),
        ({"mcp": {"cal_timeout_s": 1}}, "tools.mcp.cal_timeout_s: there is no such setting; did you mean call_timeout_s?"),
        ({"allow": ["a.example"]}, "tools.allow: 'a.example' is no pattern, as in https://*.example.org/mcp"),
        ({"search": {"backend": "mcp"}}, "tools.search.tool: is missing"),
        ({"search": {"backend": "mcp", "tool": "t"}}, "tools.search.server: is missing; it is the NAME of a [tools.mcp.NAME]"),
        ({"search": {"backend": "mcp", "tool": "t", "server": "x"}, "mcp": {"y": {"url": "http://x.test"}}}, "tools.search.server: there is no such server; known: y"),
        ({"search": {"backend": "mcp", "tool": "t", "server": "x"}}, "tools.search.server: there is no such server, nor any other"),
        ({"search": {"backend": "mcp", "tool": "t", "server": "y", "url": "http://x.test"}, "mcp": {"y": {"url": "http://x.test"}}}, "tools.search.url: is that of the server, in [tools.mcp.NAME]"),
        ({"search": {"backend": "searxng", "url": "http://x.test", "tool": "t"}}, 'tools.search.tool: is for backend = "mcp"'),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_path(tools: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings_of(tools)
    assert problem in raised.value.problems
    assert "planted" not in str(raised.value)


LOADED = """
import sys, translator.service.http.app as app
from translator.service.config.loading import read_table
made = [app.create_app(read_table(table, {})) for table in %r]
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"mcp", "httpx2", "pydantic"}))
"""
UP: Mapping[str, Any] = {"upstreams": {"up": {"base_url": "http://up.test/v1"}}}


@pytest.mark.parametrize(
    ("tables", "loaded"),
    [
        (
            [UP, {**UP, "tools": {}}, {**UP, "tools": {"search": {"backend": "searxng", "url": "http://x.test"}}}],
            "",
        ),
        ([{**UP, "tools": {"mcp": {"a": {"url": "http://x.test"}}}}], "httpx2 mcp pydantic"),
        ([{**UP, "tools": {"allow": ["https://x.test"]}}], "httpx2 mcp pydantic"),
    ],
)  # fmt: skip
def test_the_sdk_is_imported_only_where_there_is_a_use_for_it(tables: Any, loaded: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED % (tables,)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == loaded
