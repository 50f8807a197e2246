"""The check of one address of an upstream: it is asked for its list of models.

list of models ──► reachable, key accepted, models, marks of its server
web page, redirect, 404 ──► the same path with /v1, and its parents, in case one is meant
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from translator.dialects import BASE, DIALECTS
from translator.probe.client import header_marks
from translator.probe.verdict import marked, named
from translator.reader.upstream_errors import read_upstream_error
from translator.service.base.errors import OutOfDescriptors
from translator.service.config.settings import Upstream
from translator.service.upstreams.base_url import other_urls
from translator.service.upstreams.client import Upstreams
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_list, as_object, as_string, objects_in

from .causes import Cause, Names, connection_cause, status_cause

MAX_LIST_BYTES = 8 * 1024 * 1024
"""Largest list of models that is read, in bytes; those of gateways have some hundred KB."""

_WEB_PAGE = re.compile(rb"\s*(?:<!doctype html|<html|<head)", re.IGNORECASE)


class Address(Struct, frozen=True, kw_only=True):
    """What was found at one URL of an upstream."""

    url: str
    cause: Cause | None = None
    """Why it cannot be used; None where nothing speaks against it."""

    status: int | None = None
    models: tuple[str, ...] | None = None
    """The ids of its models; None: it has no list."""

    marks: frozenset[str] = frozenset()
    elsewhere: str = ""
    """What to set instead, where another URL has a list: unless a model answers at this one."""


class _Reply(Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def check_address(
    upstreams: Upstreams,
    upstream: Upstream,
    url: str,
    names: Names,
    *,
    models: Collection[str],
    authorization: str | None,
    seconds: float,
) -> Address:
    """Ask one address of an upstream for its list of models.

    `models` are the upstream's ids of those that the settings have: the owner of one is a mark.
    """
    one = replace(upstream, base_url=url, fallback_urls=())
    own_key = upstream.has_credential or authorization is not None
    try:
        reply = await _get(upstreams, one, authorization, seconds)
    except (UpstreamError, OutOfDescriptors, TimeoutError) as error:
        return Address(url=url, cause=connection_cause(error, url, names, seconds))
    marks = frozenset(header_marks(reply.headers))
    rows = _listed(reply)
    if rows is not None:
        ids = tuple(name for row in rows if (name := as_string(row.get("id"))))
        marks |= _owner(rows, models)
        return Address(url=url, status=reply.status, models=ids, marks=marks)
    cause = _cause(reply, names, own_key=own_key)
    elsewhere = ""
    if _may_be_elsewhere(reply):
        for other in other_urls(url):
            if await _has_list(upstreams, replace(one, base_url=other), authorization, seconds):
                elsewhere = f"The API is at another path: {names.with_value(names.url, other)}"
                break
    if elsewhere and cause is not None:
        cause = Cause(cause.summary, elsewhere)
    elif elsewhere and not models:
        cause = Cause("it is no API", elsewhere)
    return Address(url=url, status=reply.status, cause=cause, marks=marks, elsewhere=elsewhere)


async def _get(
    upstreams: Upstreams, upstream: Upstream, authorization: str | None, seconds: float
) -> _Reply:
    async with (
        asyncio.timeout(seconds),
        upstreams.call(upstream, "models", authorization=authorization) as answer,
    ):
        body = await body_of(answer.chunks(), MAX_LIST_BYTES)
        return _Reply(answer.status, answer.headers, body)


async def body_of(chunks: AsyncGenerator[bytes], limit: int) -> bytes:
    """The beginning of a body, up to about `limit` bytes."""
    body = bytearray()
    async with aclosing(chunks) as reading:
        async for chunk in reading:
            body += chunk
            if len(body) > limit:
                break
    return bytes(body)


def _listed(reply: _Reply) -> list[dict[str, Any]] | None:
    """The rows of a list of models; None where the body is none."""
    if not 200 <= reply.status < 300:
        return None
    try:
        decoded = msgspec.json.decode(reply.body)
    except NOT_JSON:
        return None
    found = as_list(decoded)  # as Together has it
    if found is None:
        table = as_object(decoded) or {}
        found = as_list(table.get("data"))
        if found is None:
            found = as_list(table.get("models"))
    return None if found is None else list(objects_in(found))


def _owner(rows: list[dict[str, Any]], models: Collection[str]) -> set[str]:
    """The owner of the models as a mark, where they all have the same one."""
    ours = [row for row in rows if row.get("id") in models] or rows
    owners = {as_string(row.get("owned_by")) or "" for row in ours}
    owners.discard("")
    return {f"owner:{owner}" for owner in owners if len(owners) == 1}


def is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer is for people."""
    return "html" in headers.get("content-type", "") or _WEB_PAGE.match(body) is not None


def _cause(reply: _Reply, names: Names, *, own_key: bool) -> Cause | None:
    """Why an answer that is no list of models speaks against an address; None: it need not."""
    if 200 <= reply.status < 300:
        if is_web_page(reply.headers, reply.body):
            return Cause("it answers with a web page, not an API", f"Correct {names.url}.")
        return None
    if 300 <= reply.status < 400:
        to = reply.headers.get("location", "").removesuffix("/models")
        advice = f"Correct {names.url}."
        if to.startswith("http"):
            advice = f"Perhaps it has moved: {names.with_value(names.url, to)}"
        return Cause(f"it redirects ({reply.status}), which is not followed", advice)
    error = read_upstream_error(reply.status, reply.body)
    if (cause := status_cause(reply.status, error, names, own_key=own_key)) is not None:
        return cause
    if reply.status in (404, 405):
        if is_web_page(reply.headers, reply.body):
            return Cause(
                f"it answers with a web page ({reply.status}), not an API", f"Correct {names.url}."
            )
        return None
    if reply.status >= 500:
        return Cause(
            f"it fails ({reply.status}): {error.message}",
            "See the log of the upstream, or wait, and check again.",
        )
    return None


def _may_be_elsewhere(reply: _Reply) -> bool:
    return reply.status in (404, 405) or 200 <= reply.status < 400


async def _has_list(
    upstreams: Upstreams, upstream: Upstream, authorization: str | None, seconds: float
) -> bool:
    try:
        reply = await _get(upstreams, upstream, authorization, seconds)
    except (UpstreamError, OutOfDescriptors, TimeoutError):
        return False
    return _listed(reply) is not None


def dialect_remark(
    dialect: str, marks: Collection[str], names: Names
) -> tuple[dict[str, list[str]], str]:
    """The marks that were seen of each dialect, and what to do where they are another one's."""
    others = [name for name in DIALECTS if name != BASE.name]
    seen = {name: found for name in others if (found := marked(name, marks))}
    by_name = [name for name in seen if named(name, marks)]
    likely = by_name or ([*seen] if dialect == BASE.name else [])
    if dialect in seen or len(likely) != 1 or DIALECTS[dialect].hosts:
        return seen, ""
    [other] = likely
    return seen, (
        f"It looks like {other} ({', '.join(seen[other][:3])}): try "
        f"{names.with_value(names.dialect, other)}, or find out with translator probe."
    )
