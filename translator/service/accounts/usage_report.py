"""Reports of usage for programs: buckets of days as OpenAI's, and single requests.

    ?start=DAY &end=DAY &group_by=model,api_key_id &model=ID &api_key_id=key_17 &limit=31 &page=DAY

A page has a bucket for each UTC day from `start` to before `end`, up to `limit` of them; `page`
goes on at a day. Amounts are exact decimal texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.wire.errors import InvalidRequest

from .money import PRICE, shown
from .periods import DAY_US, SECOND_US, read_time, shown_time
from .usage import Grouping, Span, Sum, Usage, sums, time_of, total, usages_of

DEFAULT_DAYS = 31
MAX_DAYS = 180
"""Most days of a page."""

MAX_RESULTS = 10_000
"""Most results of a page; one with more ends at a day before, but for its first day."""

_GROUPS: dict[str, Grouping] = {"model": "model", "api_key_id": "key"}
_NAMES = ("start", "end", "group_by", "group_by[]", "model", "api_key_id", "limit", "page")
_BUCKET_WIDTH = "bucket_width"


class UsageResult(Struct, frozen=True, kw_only=True):
    """The usage of a group in a bucket; null: of all models, or keys."""

    object: Literal["usage.result"] = "usage.result"
    model: str | None
    api_key_id: str | None
    num_model_requests: int
    input_tokens: int
    input_cached_tokens: int
    output_tokens: int
    amount: str


class UsageBucket(Struct, frozen=True, kw_only=True):
    """A UTC day; times are in seconds since 1970."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: Sequence[UsageResult]


class UsagePage(Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/usage`; `total` is that of all the days, of all pages."""

    object: Literal["page"] = "page"
    data: Sequence[UsageBucket]
    has_more: bool
    next_page: str | None
    total: UsageResult
    currency: str


class UsagePrice(Struct, frozen=True, kw_only=True):
    """The price of a request: decimals per million tokens; null is that of the input."""

    id: str
    input: str
    cached_input: str | None
    cache_write: str | None
    output: str
    per_request: str


class UsageRow(Struct, frozen=True, kw_only=True):
    """A request, or a call of a tool, that has ended; times are in seconds since 1970.

    `estimated` says which of its tokens are estimates. `amount` is what it has cost, less or more
    by `correction` where its process was taken for dead.
    """

    id: str
    object: Literal["usage"] = "usage"
    kind: Literal["request", "search", "mcp"]
    calls: int
    request_id: str
    response_id: str | None
    endpoint: str
    model: str
    channel: str
    api_key_id: str
    api_key_name: str
    began_at: int
    ended_at: int
    outcome: str
    estimated: str
    input_tokens: int
    input_cached_tokens: int
    input_cache_write_tokens: int
    output_tokens: int
    output_reasoning_tokens: int
    amount: str
    correction: str
    currency: str
    price: UsagePrice | None
    others: Sequence[str] = ()
    """Ids of further usages with the same id of a request: earlier ones, and calls of tools."""


class ReportRequest(Struct, frozen=True, kw_only=True):
    """What a report is asked for; None: the default, which depends on the day."""

    start: int | None = None
    end: int | None = None
    at: int | None = None
    by: tuple[Grouping, ...] = ()
    key: int | None = None
    model: str | None = None
    days: int = DEFAULT_DAYS


def read_report_request(query: Mapping[str, list[str]]) -> ReportRequest:
    """What a query asks for; raises InvalidRequest."""
    for name in query:
        if name not in _NAMES and name != _BUCKET_WIDTH:
            known = ", ".join(one for one in _NAMES if "[" not in one)
            raise _invalid(name[:100], f"there is no such parameter; known: {known}", unknown=True)
    if query.get(_BUCKET_WIDTH, ["1d"])[-1] != "1d":
        raise _invalid(_BUCKET_WIDTH, "buckets are days, '1d'")
    limit = query.get("limit", [str(DEFAULT_DAYS)])[-1]
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_DAYS):
        raise _invalid("limit", f"expected a number of days from 1 to {MAX_DAYS}")
    asked = ReportRequest(
        start=_day(query, "start"),
        end=_day(query, "end"),
        at=_day(query, "page"),
        by=_groups(query),
        key=_key(query),
        model=query["model"][-1] if query.get("model", [""])[-1] else None,
        days=int(limit),
    )
    if asked.start is not None and asked.end is not None and asked.start >= asked.end:
        raise _invalid("end", "it must be after 'start': the first day that is not in the report")
    return asked


def report(connection: Connection, account: int, asked: ReportRequest, currency: str) -> UsagePage:
    """A page of the usage of an account."""
    now = time_of(connection)
    end = asked.end
    if end is None:
        end = max(now - now % DAY_US, asked.start or 0) + DAY_US
    start = end - DEFAULT_DAYS * DAY_US if asked.start is None else asked.start
    span = Span(start=start, end=end, key=asked.key, model=asked.model)
    first = max(start, asked.at or start)
    last = min(end, first + asked.days * DAY_US)
    rows = sums(
        connection,
        account,
        Span(start=first, end=last, key=asked.key, model=asked.model),
        ("day", *asked.by),
    )
    if len(rows) > MAX_RESULTS:
        last = max(_of(rows[MAX_RESULTS]), first + DAY_US)
    by_day: dict[int, list[UsageResult]] = {}
    for row in rows:
        by_day.setdefault(_of(row), []).append(_result(row))
    return UsagePage(
        data=[
            UsageBucket(
                start_time=day // SECOND_US,
                end_time=(day + DAY_US) // SECOND_US,
                results=by_day.get(day, ()),
            )
            for day in range(first, last, DAY_US)
        ],
        has_more=last < end,
        next_page=shown_time(last)[:10] if last < end else None,
        total=_result(total(connection, account, span)),
        currency=currency,
    )


def usage_row(connection: Connection, account: int, name: str, currency: str) -> UsageRow | None:
    """The usage of an account that is called so, the newest one; None where there is none."""
    found = usages_of(connection, account, name)
    if not found:
        return None
    others = [f"usage_{one.id}" for one in found[1:]]
    return row_of(found[0], currency, others)


def row_of(one: Usage, currency: str, others: Sequence[str] = ()) -> UsageRow:
    """A usage, for programs."""
    price = None
    if one.price is not None:
        cached, write = one.price.cached_input, one.price.cache_write
        price = UsagePrice(
            id=f"price_{one.price.id}",
            input=shown(one.price.input, unit=PRICE),
            cached_input=None if cached is None else shown(cached, unit=PRICE),
            cache_write=None if write is None else shown(write, unit=PRICE),
            output=shown(one.price.output, unit=PRICE),
            per_request=shown(one.price.per_request),
        )
    return UsageRow(
        id=f"usage_{one.id}",
        kind=one.kind,
        calls=one.calls,
        request_id=one.request_id,
        response_id=one.response_id or None,
        endpoint=one.endpoint,
        model=one.model,
        channel=one.channel,
        api_key_id=f"key_{one.key}",
        api_key_name=one.key_name,
        began_at=one.began_at // SECOND_US,
        ended_at=one.ended_at // SECOND_US,
        outcome=one.outcome,
        estimated=one.estimated,
        input_tokens=one.input,
        input_cached_tokens=one.cached,
        input_cache_write_tokens=one.written,
        output_tokens=one.output,
        output_reasoning_tokens=one.reasoning,
        amount=shown(one.amount),
        correction=shown(one.corrected),
        currency=currency,
        price=price,
        others=others,
    )


def _result(row: Sum) -> UsageResult:
    return UsageResult(
        model=row.model,
        api_key_id=None if row.key is None else f"key_{row.key}",
        num_model_requests=row.requests,
        input_tokens=row.input,
        input_cached_tokens=row.cached,
        output_tokens=row.output,
        amount=shown(row.amount),
    )


def _of(row: Sum) -> int:
    assert row.day is not None
    return row.day


def _groups(query: Mapping[str, list[str]]) -> tuple[Grouping, ...]:
    texts = [*query.get("group_by", ()), *query.get("group_by[]", ())]
    names = [one for text in texts for one in text.split(",") if one]
    for one in names:
        if one not in _GROUPS:
            raise _invalid("group_by", f"expected 'model' or 'api_key_id', not '{one[:100]}'")
    return tuple(dict.fromkeys(_GROUPS[one] for one in names))


def _key(query: Mapping[str, list[str]]) -> int | None:
    text = query.get("api_key_id", [""])[-1]
    if not text:
        return None
    number = text.removeprefix("key_")
    if number == text or not (number.isascii() and number.isdigit()):
        raise _invalid("api_key_id", "expected the id of a key, such as 'key_17'")
    return int(number[:18])


def _day(query: Mapping[str, list[str]], name: str) -> int | None:
    text = query.get(name, [""])[-1]
    if not text:
        return None
    try:
        at = int(text[:12]) * SECOND_US if text.isascii() and text.isdigit() else read_time(text)
    except (ValueError, OverflowError):
        at = -1
    if at < 0 or at % DAY_US or at > _LAST_DAY:
        raise _invalid(name, "expected a UTC day, such as '2027-01-31', or its first second")
    return at


_LAST_DAY = read_time("9999-01-01")


def _invalid(name: str, why: str, *, unknown: bool = False) -> InvalidRequest:
    code = "unknown_parameter" if unknown else "invalid_value"
    return InvalidRequest(f"Invalid '{name}': {why}.", param=name, code=code)
