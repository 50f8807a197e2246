"""Money, allowances, periods and bills: exact, and integers alone."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import translator.service.accounts
from translator.service.access.client import Ask, Ended
from translator.service.access.cost import MAX_TOKENS, Answered, StatedUsage
from translator.service.accounts.allowances import MINUTE_US, Allowance
from translator.service.accounts.bills import Counts, Price, amount, base, bill, most
from translator.service.accounts.holds import HoldRequest, affordable
from translator.service.accounts.money import (
    MAX_AMOUNT,
    PICO,
    PRICE,
    InvalidAmount,
    read_amount,
    read_price,
    shown,
    shown_down,
)
from translator.service.accounts.periods import (
    LAST_US,
    next_period,
    period_start,
    read_time,
    shown_time,
)
from translator.service.accounts.sizes import Size, size_of

P = Price(1, 600_000, 100_000, 750_000, 2_500_000, 0, free=False)
WITHOUT_CACHE = Price(2, 600_000, None, None, 2_500_000, 0, free=False)


@given(st.integers(-MAX_AMOUNT, MAX_AMOUNT))
def test_an_amount_is_read_as_it_is_shown(pico: int) -> None:
    text = shown(pico)
    assert Decimal(text) * PICO == pico
    assert read_amount(text) == pico
    assert Decimal(shown_down(pico)) * PICO <= pico < (Decimal(shown_down(pico)) + 1) * PICO


@given(st.integers(0, 10_000 * PRICE))
def test_a_price_is_read_as_it_is_shown(price: int) -> None:
    assert read_price(shown(price, unit=PRICE)) == price


@pytest.mark.parametrize(
    "text",
    ["", "x", "nan", "inf", "1e", "0.0000001", "10000.1", "-1", "--1", "1,5", "١", "1_0", "0x1"],
)
def test_a_price_is_a_decimal_within_bounds(text: str) -> None:
    with pytest.raises(InvalidAmount):
        read_price(text)


@pytest.mark.parametrize(
    "text",
    ["9999-12-31T23:59-23:00", "0001-01-01T00:00+23:00", "1969-12-31T23:59:59Z", "soon", ""],
)
def test_a_time_is_of_the_years_that_can_be_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"between the years|Invalid isoformat"):
        read_time(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_of_a_row_is_shown(at: int) -> None:
    shown_at = read_time(shown_time(at).replace(" ", "T"))
    assert shown_at == max(0, min(at, LAST_US)) // 1_000_000 * 1_000_000


def test_figures_of_the_worked_examples() -> None:
    usage = Counts(12_000, 8_000, 1_000, 500, 400)
    assert amount(P, usage) == 4_600_000_000
    assert amount(WITHOUT_CACHE, usage) == 8_450_000_000
    assert shown(4_600_000_000) == "0.0046"
    assert amount(P, Counts(56_322, 72_960)) == 5_632_200_000
    size = Size(40_000, 0)
    assert size.held_tokens == 13_590
    assert most(WITHOUT_CACHE, size.held_tokens, 1000) == 10_654_000_000


def request(**more: object) -> HoldRequest:
    fields = {
        "token": "t", "boot": "b", "account": 1, "key": 1, "generation": 1, "model": "m",
        "channel": "all", "endpoint": "/responses", "request_id": "r", "tokens": 1,
        "price_list": "standard", "input_tokens": 13_590, "default_limit": 32_768,
        "least_limit": 256,
    }  # fmt: skip
    return HoldRequest(**(fields | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [1000, None])
def test_an_answer_is_limited_to_what_is_affordable(asked: int | None) -> None:
    left = 9_000_000_000
    money, limit = affordable(WITHOUT_CACHE, request(asked=asked), left)
    assert (money, limit) == (8_154_000_000 + 338 * 2_500_000, 338)
    money, limit = affordable(WITHOUT_CACHE, request(asked=asked), 8_300_000_000)
    assert money > 8_300_000_000
    assert limit is None


@given(
    st.integers(0, 10**13),
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
)
def test_a_hold_covers_what_its_request_may_use(
    left: int, input_: int, choices: int, asked: int | None, model: int | None
) -> None:
    ask = request(input_tokens=input_, choices=choices, asked=asked, model_limit=model)
    money, limit = affordable(P, ask, left)
    wanted = min([one for one in (asked, model) if one is not None], default=32_768)
    if limit is not None:
        assert money <= left
        assert 256 <= limit < wanted
    assert money == base(P, input_) + P.output * choices * (wanted if limit is None else limit)


def ended(result: str, **more: object) -> Ended:
    fields: dict[str, object] = {"result": result, "went_upstream": True} | more
    fields.setdefault("answered", Answered())
    return Ended(**fields)  # type: ignore[arg-type]


TOLD = Answered(400, 0, StatedUsage(30, 20, 50, 40, 5, 25))
SOME = Answered(401)


@pytest.mark.parametrize("broken", ["nothing", "estimate"])
@pytest.mark.parametrize(
    ("end", "counts", "estimated"),
    [
        (ended("completed", answered=TOLD), Counts(30, 30, 0, 20, 20), "no"),
        (ended("incomplete", answered=TOLD), Counts(30, 30, 0, 20, 20), "no"),
        (ended("failed", answered=TOLD, failed=True), Counts(30, 30, 0, 20, 20), "no"),
        (ended("client_left", answered=TOLD), Counts(30, 30, 0, 20, 20), "no"),
        (ended("completed", answered=SOME), Counts(1750, 0, 0, 101), "all"),
        (ended("incomplete", answered=SOME), Counts(1750, 0, 0, 101), "all"),
        (ended("client_left", answered=SOME), Counts(1750, 0, 0, 101), "all"),
        (ended("client_left", answered=Answered(0, 300)), Counts(1750, 0, 0, 300), "all"),
        (ended("client_left"), None, "no"),
        (ended("refused", failed=True), None, "no"),
        (ended("failed", failed=True), None, "no"),
        (ended("failed", answered=TOLD, failed=True, by_us=True), None, "no"),
        (ended("completed", answered=TOLD, went_upstream=False), None, "no"),
        (
            ended("completed", answered=Answered(401, 0, StatedUsage(MAX_TOKENS + 1, 5, 0))),
            Counts(1750, 0, 0, 101),
            "all",
        ),
        (
            ended("completed", answered=Answered(401, 0, StatedUsage(0, 0, 9))),
            Counts(1750, 0, 0, 101),
            "all",
        ),
    ],
)
def test_what_is_billed(end: Ended, counts: Counts | None, estimated: str, broken: str) -> None:
    found = bill(end, Size(1000, 1), broken=broken)  # type: ignore[arg-type]
    assert found.billed is (counts is not None)
    assert (found.counts, found.estimated) == (counts or Counts(), estimated)


def test_a_broken_answer_is_billed_where_the_operator_wants_it() -> None:
    end = ended("failed", answered=SOME, failed=True)
    for broken in ("nothing", "estimate"):
        found = bill(end, Size(1000, 0), broken=broken)  # type: ignore[arg-type]
        assert found.billed is (broken == "estimate")
        assert (found.counts, found.estimated) == (Counts(250, 0, 0, 101), "output")


def test_images_count_as_images() -> None:
    data = b"data:image/png;base64," + b"A" * 100_000
    one = b'{"type":"input_image","image_url":"%b"}' % data
    other = b'{"type":"input_image","file_id":"f"}'
    chat = b'{"type":"image_url","image_url":{"url":"http://x/y.png"}}'
    said = rb'{"text":"an \"image_url\" is data:image"}'
    body = b'{"model":"m","input":[{"role":"user","content":[%b]}]}' % one
    ask = Ask(size=1, body=body, earlier=[other, chat, said])  # type: ignore[list-item]
    found = size_of(ask)
    assert found.images == 3
    assert found.text_bytes == len(body) - len(data) - 2 + len(other) + len(chat) + len(said)


DATA_URL = b"data:image/png;base64," + b"A" * 9000


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (b'{"input":[{"content":[{"type":"input_image","image_url":"%b"}]}]}', 1),
        (b'{"input":[{"output":[{"type":"input_image","image_url":"%b"}]}]}', 1),
        (b'{"input":[{"output":{"type":"computer_screenshot","image_url":"%b"}}]}', 1),
        (b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"%b"}}]}]}', 1),
        (b'{"input":"%b"}', 0),
        (b'{"input":[{"content":"%b"}]}', 0),
        (b'{"input":[{"content":[{"type":"input_text","text":"%b"}]}]}', 0),
        (b'{"input":"Hi","instructions":"%b"}', 0),
        (b'{"input":"Hi","tools":[{"content":[{"image_url":"%b"}]}]}', 0),
        (b'{"input":"Hi","metadata":{"image_url":"%b"}}', 0),
        (b'{"input":[{"content":[{"image_url":["%b"]}]}]}', 0),
        (b'{"input":[{"content":[{"image_url":"%b"}]}]', 0),
        (b'{"input":["%b"]}', 0),
        (b'{"input":[{"content":["%b"]}]}', 0),
    ],
)
def test_a_text_that_looks_like_an_image_is_text(body: bytes, images: int) -> None:
    """Else whoever begins a long text so would have it for the price of an image."""
    body %= DATA_URL
    size = size_of(Ask(size=1, body=body))
    text = len(body) - images * (len(DATA_URL) + 2)
    assert size.text_bytes == text
    assert size.images >= images


@given(
    st.integers(1, 10**6),
    st.lists(st.tuples(st.integers(0, 2 * MINUTE_US), st.integers(0, 100)), max_size=30),
)
def test_an_allowance_lets_through_its_limit_and_one_bucket(
    limit: int, steps: list[tuple[int, int]]
) -> None:
    """In any minute as much as the limit, and what the bucket held at its beginning."""
    one = Allowance.full("requests", limit, 0)
    now = passed = 0
    for wait, wanted in steps:
        now += wait
        one.fill(now)
        if not one.wait_us(wanted):
            one.take(wanted)
            passed += wanted
        elif wanted <= limit:
            later = Allowance(one.noun, one.limit, one.rest, one.since)
            later.fill(now + one.wait_us(wanted))
            assert not later.wait_us(wanted)
    assert passed * MINUTE_US <= limit * (MINUTE_US + now)


def test_an_allowance_fills_up_to_its_limit() -> None:
    one = Allowance.full("tokens", 60, 0)
    one.take(90)
    assert one.headers()["x-ratelimit-remaining-tokens"] == "0"
    one.fill(MINUTE_US)
    assert one.headers() == {
        "x-ratelimit-limit-tokens": "60",
        "x-ratelimit-remaining-tokens": "30",
        "x-ratelimit-reset-tokens": "30s",
    }
    one.fill(30 * MINUTE_US)
    one.take(-5)
    assert one.rest == 60 * MINUTE_US
    one.fill(0)  # a clock that was set back
    assert one.rest == 60 * MINUTE_US


@pytest.mark.parametrize(
    ("period", "now", "start", "after"),
    [
        ("never", "2026-12-31T23:59:59", None, None),
        (None, "2026-12-31T23:59:59", None, None),
        ("day", "2026-12-31T23:59:59.999999", "2026-12-31", "2027-01-01"),
        ("day", "2027-01-01", "2027-01-01", "2027-01-02"),
        ("week", "2026-11-29T12:00", "2026-11-23", "2026-11-30"),
        ("week", "2026-11-30", "2026-11-30", "2026-12-07"),
        ("month", "2026-12-31T23:59:59.999999", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29", "2028-02-01", "2028-03-01"),
    ],
)
def test_periods_begin_by_the_calendar(
    period: str | None, now: str, start: str | None, after: str | None
) -> None:
    at = read_time(now)
    assert period_start(period, at) == (0 if start is None else read_time(start))  # type: ignore[arg-type]
    found = next_period(period, at)  # type: ignore[arg-type]
    assert found == (None if after is None else read_time(after))


def test_no_float_comes_near_money() -> None:
    folder = Path(translator.service.accounts.__file__).parent
    for file in folder.rglob("*.py"):
        assert not re.search(r"\bfloat\(", file.read_text("utf-8")), file
