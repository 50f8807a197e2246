"""Secrets in tools: what a client tells an MCP server or a container, and nobody else.

    { type: "mcp", authorization, headers, server_url: "https://user:password@host/path?query" }
    { …, network_policy: { domain_secrets: [ … ] } }

OpenAI's response object repeats a tool without them: no `authorization`, `headers` null. Nor do
they belong in a log or a capture.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from translator.wire.json_values import as_list, as_object, as_string

from .invalid import nested_too_deeply

SECRET_FIELDS = frozenset({"authorization", "headers", "server_url", "domain_secrets"})


def without_secrets(raw: Raw) -> Raw:
    """A declaration of a tool without its secrets; itself where it has none.

    Functions and custom tools have none: a field of that name is one of the client's own schema.
    Raises InvalidRequest for a tool that is nested too deeply.
    """
    try:
        tool = msgspec.json.decode(raw)
        clean = _clean(tool)
    except RecursionError:
        raise nested_too_deeply() from None
    return raw if clean == tool else Raw(msgspec.json.encode(clean))


def secrets_of(raw: Raw) -> dict[str, list[Any]]:
    """The values of the secret fields of a tool, by name."""
    found: dict[str, list[Any]] = {}
    _collect(msgspec.json.decode(raw), found)
    return found


def _is_own(fields: dict[str, Any]) -> bool:
    return fields.get("type") in ("function", "custom")


def _clean(value: object) -> object:
    entries = as_list(value)
    if entries is not None:
        return [_clean(entry) for entry in entries]
    fields = as_object(value)
    if fields is None or _is_own(fields):
        return value
    clean: dict[str, object] = {}
    for name, field in fields.items():
        if name not in SECRET_FIELDS:
            clean[name] = _clean(field)
        elif name == "headers":
            clean[name] = None
        elif name == "server_url":
            url = as_string(field)
            clean[name] = None if url is None else public_url(url)
    return clean


def _collect(value: object, found: dict[str, list[Any]]) -> None:
    for entry in as_list(value) or ():
        _collect(entry, found)
    fields = as_object(value)
    if fields is None or _is_own(fields):
        return
    for name, field in fields.items():
        if name in SECRET_FIELDS:
            found.setdefault(name, []).append(field)
        else:
            _collect(field, found)


def public_url(url: str) -> str:
    """A URL without the user and password, the query and the fragment."""
    url = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
