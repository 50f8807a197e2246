"""The check of settings, upstreams and models.

    check   = settings row, [ store row ], { tools row }, { upstream } ;    upstreams at once
    upstream = { address row }, { model row } ;    its models one after another

An upstream that cannot be used, or refuses the key, is not asked for its models. Everything is
bounded: the time of a request and of all, the upstreams at once, the bytes that are read.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import httpx
from msgspec import Struct
from msgspec.structs import replace

from translator.service.base.redaction import Redaction
from translator.service.config.proxies import proxies_of
from translator.service.config.secrets import secrets_in, settings_secrets
from translator.service.config.sections import CATCH_ALL
from translator.service.config.settings import Settings, Upstream
from translator.service.models.table import ModelTable, Route
from translator.service.upstreams.client import Upstreams
from translator.service.upstreams.transport import needs_tls

from .causes import Cause, Names
from .models import ModelCheck, ModelResult
from .results import Report, Row, Status, cleaned
from .start import start_problems
from .upstreams import Address, check_address, dialect_remark

MAX_AT_ONCE = 4
"""Most upstreams that are asked at once."""

MAX_MODELS_NAMED = 5
MAX_MARKS_NAMED = 2

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Plan(Struct, frozen=True, kw_only=True):
    """What is checked, and how."""

    settings: Settings
    source: str
    """Where the settings are from, for people."""

    names: Mapping[str, Names]
    """How the operator calls the settings of each upstream."""

    models: Sequence[str] = ()
    """The models to check; by default all of the settings."""

    authorization: str | None = None
    """The `Authorization` of a client, for upstreams without a key of their own."""

    offline: bool = False
    request_s: float = 60.0
    """Longest time of one request, in seconds."""

    max_s: float = 600.0
    """Longest time of all requests, in seconds."""


async def check(
    plan: Plan,
    *,
    progress: Callable[[str], None] = lambda _line: None,
    transport: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Report:
    """Check all that the plan names; `progress` receives a phrase before each request.

    Raises NotFound for a model of the plan that the settings do not have.
    """
    settings = plan.settings
    redact = Redaction(_secrets(plan)).text
    table = ModelTable(settings, 0)
    routes = [
        (name, route)
        for name in plan.models or settings.models
        for route in _routes_of(table.route(name))
    ]
    rows = [_settings_row(settings, plan.source), *_start_rows(settings)]
    if settings.store is not None:
        from .store import store_row  # which imports what only a store needs

        location = settings.store.location
        progress(f"store: {location.shown}")
        row = partial(store_row, location, plan.source, offline=plan.offline)
        rows.append(await asyncio.to_thread(row))
    if settings.tools is not None:
        from .tools import tool_rows  # which imports what only tools need

        rows += await tool_rows(settings.tools, offline=plan.offline, progress=progress)
    # each failure is to be seen, so nothing is retried
    connect_s = min(settings.server.connect_timeout_s, plan.request_s)
    server = replace(settings.server, retries=0, connect_timeout_s=connect_s)
    at_once = asyncio.Semaphore(MAX_AT_ONCE)
    urls = [url for upstream in settings.upstreams.values() for url in upstream.urls]
    tls = needs_tls(urls, proxies_of(os.environ))
    async with aclosing(Upstreams(server, transport, tls=tls)) as upstreams:

        async def one(upstream: Upstream) -> list[Row]:
            of_it = [(name, route) for name, route in routes if route.upstream is upstream]
            checked = _UpstreamCheck(upstreams, upstream, plan, table, of_it, progress, deadline)
            async with at_once:
                return checked.offline_rows() if plan.offline else await checked.rows(now)

        deadline = now() + plan.max_s
        used = {route.upstream.name for _, route in routes}
        chosen = [
            upstream
            for upstream in settings.upstreams.values()
            if not plan.models or upstream.name in used
        ]
        for found in await asyncio.gather(*map(one, chosen)):
            rows += found
    return Report([cleaned(row, redact) for row in rows])


def _secrets(plan: Plan) -> set[str]:
    found = settings_secrets(plan.settings)
    for upstream in plan.settings.upstreams.values():
        found |= {*upstream.headers.values(), upstream.api_key or ""}
    if plan.authorization is not None:
        found |= secrets_in({"authorization": plan.authorization})
    return found


def _routes_of(route: Route) -> Iterator[Route]:
    """The routes of a model: on its upstream, and on the further ones that have it."""
    yield route
    for other in route.others:
        if other.model == route.model:
            yield other


def _keys(settings: Settings) -> str:
    """Whose keys requests need, for people."""
    if settings.accounts is not None:
        return "keys of accounts"
    return _count(len(settings.clients), "client") if settings.clients else "no keys of clients"


def _settings_row(settings: Settings, source: str) -> Row:
    models = len(settings.models)
    parts = [
        _count(len(settings.upstreams), "upstream"),
        _count(models, "model") if models or settings.catch_all else "any model",
        *(["every other name"] if settings.catch_all else []),
        _keys(settings),
    ]
    advice = ""
    if not settings.needs_keys and settings.server.host not in LOOPBACK:
        advice = (
            f"Anyone who can reach {settings.server.host} may use it: translator key new NAME "
            "makes a key for [clients]."
        )
    elif unbounded := _unbounded(settings):
        more = " …" if len(unbounded) > MAX_MODELS_NAMED else ""
        advice = (
            "An answer of a model without max_output_tokens may cost more than is held for it: "
            f"{', '.join(unbounded[:MAX_MODELS_NAMED])}{more}."
        )
    return Row(
        kind="settings",
        name=source,
        status="warning" if advice else "ok",
        summary=", ".join(parts),
        advice=advice,
    )


def _unbounded(settings: Settings) -> list[str]:
    """The models whose longest answer is not known, where answers are billed."""
    if settings.accounts is None or not settings.accounts.section.billing:
        return []
    return [name for name, model in settings.models.items() if model.max_output_tokens is None]


def _start_rows(settings: Settings) -> list[Row]:
    """A row for each reason why the service would not start."""
    pairs = [problem.split(": ", 1) for problem in start_problems(settings)]
    return [Row(kind="settings", name=path, status="failed", summary=text) for path, text in pairs]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _UpstreamCheck:
    """One upstream: its addresses, and its models."""

    def __init__(
        self,
        upstreams: Upstreams,
        upstream: Upstream,
        plan: Plan,
        table: ModelTable,
        routes: Sequence[tuple[str, Route]],
        progress: Callable[[str], None],
        deadline: float,
    ) -> None:
        self._upstreams = upstreams
        self._upstream = upstream
        self._plan = plan
        self._table = table
        self._routes = list(routes)
        self._names = plan.names[upstream.name]
        self._progress = progress
        self._deadline = deadline

    def offline_rows(self) -> list[Row]:
        """The rows without any request."""
        upstream = self._upstream
        reason = "not asked (--offline)"
        rows = [
            self._address_row(Address(url=url), "skipped", reason, "", {}) for url in upstream.urls
        ]
        for name, route in self._routes:
            target = route.upstream_model or name
            where = f"{upstream.name}, as {target}, dialect {route.dialect.name}"
            rows.append(self._skipped(name, route, f"{where}: {reason}"))
        return rows

    async def rows(self, now: Callable[[], float]) -> list[Row]:
        """Ask all addresses, then for all models at the first one that can be used."""
        upstream, plan = self._upstream, self._plan
        addresses: list[Address] = []
        for url in upstream.urls:
            self._progress(f"{upstream.name}: {url}")
            address = await check_address(
                self._upstreams,
                upstream,
                url,
                self._names,
                models=[route.upstream_model or name for name, route in self._routes],
                authorization=plan.authorization,
                seconds=plan.request_s,
            )
            addresses.append(address)
        usable = next((one for one in addresses if one.cause is None), None)
        results: list[ModelResult] = []
        rest = self._without_request(usable)
        if usable is not None:
            results = await self._ask_models(usable, now)
        marks = frozenset[str]().union(
            *(one.marks for one in addresses), *(one.marks for one in results)
        )
        answered = any(one.row.status in ("ok", "warning") for one in results)
        found = [one for one in results if one.row.status != "skipped"]
        no_list = usable is not None and usable.models is None
        if usable is not None and no_list and found and all(one.unknown_path for one in found):
            cause = Cause(
                "neither a list of models nor a model is found there (404)",
                usable.elsewhere or f"Correct {self._names.url}: it ends before /chat/completions.",
            )
            addresses[addresses.index(usable)] = replace(usable, cause=cause)
        refused = any(one.row.details.get("http_status") in (401, 403) for one in results)
        key = "key accepted" if answered else "" if refused else "key not refused"
        rows = [self._judged(address, marks, answered=answered, key=key) for address in addresses]
        return rows + [one.row for one in results] + rest

    def _without_request(self, usable: Address | None) -> list[Row]:
        """The rows of the models that no request is sent for; adds the one that a server has."""
        if usable is None:
            reason = "its upstream cannot be used"
            return [self._skipped(name, route, reason) for name, route in self._routes]
        settings, named = self._plan.settings, bool(self._plan.models)
        catch_all = settings.catch_all
        if named or (catch_all is not None and catch_all.upstream is not self._upstream):
            return []
        if catch_all is None and settings.models:
            return []
        listed = usable.models or ()
        if catch_all is None and len(listed) == 1:  # as of most servers that run one model
            self._routes.append((listed[0], self._table.route(listed[0])))
            return []
        known = ", ".join(listed[:MAX_MODELS_NAMED])
        more = (
            f" It lists {known}{', …' if len(listed) > MAX_MODELS_NAMED else ''}." if known else ""
        )
        summary = "every other name" if settings.models else "any name"
        row = Row(
            kind="model",
            name=CATCH_ALL,
            status="skipped",
            summary=f"{summary}; none was tried",
            advice=f"Try one with --model NAME.{more}",
            details={"upstream": self._upstream.name},
        )
        return [row]

    async def _ask_models(self, usable: Address, now: Callable[[], float]) -> list[ModelResult]:
        plan = self._plan
        results: list[ModelResult] = []
        stop = ""
        for name, route in self._routes:
            left = self._deadline - now()
            if not stop and left <= 0:
                stop = f"the time limit of {plan.max_s:g} s is reached"
            if stop:
                results.append(ModelResult(self._skipped(name, route, stop)))
                continue
            self._progress(f"{self._upstream.name}: {name}")
            at_address = replace(route.upstream, base_url=usable.url, fallback_urls=())
            model = ModelCheck(
                self._upstreams,
                replace(route, upstream=at_address),
                name,
                self._names,
                listed=usable.models,
                authorization=plan.authorization,
                seconds=min(plan.request_s, left),
                may_retry=plan.settings.server.retry_refused,
            )
            result = await model.run()
            results.append(result)
            stop = result.stop and f"after {name}: {result.stop}"
        return results

    def _judged(self, address: Address, marks: Collection[str], *, answered: bool, key: str) -> Row:
        """The row of an address, with what the answers of models have shown."""
        upstream = self._upstream
        if (cause := address.cause) is not None:
            return self._failed(address, cause)
        seen, remark = dialect_remark(upstream.dialect, marks, self._names)
        found = ["reachable"]
        if upstream.has_credential or self._plan.authorization is not None:
            if key and (answered or address.models is not None):  # a list may be public
                found.append(key)
        else:
            found.append("no key")
        advice = remark
        if address.models is not None:
            found.append(f"lists {_count(len(address.models), 'model')}")
        else:
            found.append(f"has no list of models ({address.status})")
            if not answered:
                advice = advice or (
                    f"Whether {self._names.url} is right is not known until a model has answered."
                )
        if not self._routes and self._plan.settings.models and not self._serves_others:
            found.append("no model uses it")
            advice = advice or "Give a model this upstream, or remove it."
        as_seen = ", ".join(seen.get(upstream.dialect, [])[:MAX_MARKS_NAMED])
        found.append(f"dialect {upstream.dialect}{f', as seen ({as_seen})' if as_seen else ''}")
        status: Status = "warning" if advice else "ok"
        details = {"marks": seen}
        return self._address_row(address, status, ", ".join(found), advice, details)

    @property
    def _serves_others(self) -> bool:
        catch_all = self._plan.settings.catch_all
        return catch_all is not None and catch_all.upstream is self._upstream

    def _failed(self, address: Address, cause: Cause) -> Row:
        own_key = self._upstream.has_credential or self._plan.authorization is not None
        clients_send_keys = not own_key and not self._plan.settings.needs_keys
        only_lacks_key = address.status in (401, 403) and clients_send_keys
        status: Status = "warning" if only_lacks_key else "failed"
        return self._address_row(address, status, cause.summary, cause.advice, {})

    def _address_row(
        self, address: Address, status: Status, summary: str, advice: str, details: dict[str, Any]
    ) -> Row:
        upstream = self._upstream
        return Row(
            kind="upstream",
            name=upstream.name,
            status=status,
            summary=f"{address.url}: {summary}",
            advice=advice,
            details={
                "url": address.url,
                "http_status": address.status,
                "dialect": upstream.dialect,
                "models_listed": None if address.models is None else len(address.models),
                **details,
            },
        )

    def _skipped(self, name: str, route: Route, reason: str) -> Row:
        return Row(
            kind="model",
            name=name,
            status="skipped",
            summary=reason,
            details={
                "upstream": self._upstream.name,
                "upstream_model": route.upstream_model or name,
                "dialect": route.dialect.name,
            },
        )
