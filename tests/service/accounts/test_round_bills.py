"""Bills of several rounds: what each was told to have, or is estimated to have, added up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translator.service.access.client import Ask, Ended, Extension, Round
from translator.service.access.clients import Client
from translator.service.access.cost import Answered, StatedUsage
from translator.service.accounts.bills import Bill, Counts
from translator.service.accounts.rounds import Rounds
from translator.service.accounts.sizes import Size
from translator.service.config.clients import ClientConfig


def ended(answered: Answered, result: Any = "completed", **more: Any) -> Ended:
    failed = result == "failed"
    return Ended(result=result, answered=answered, went_upstream=True, failed=failed, **more)


@pytest.mark.anyio
async def test_rounds_of_clients_of_the_settings_take_tokens_of_their_minute() -> None:
    now = 0.0
    client = Client("anna", ClientConfig(keys=(), tokens_per_minute=1000), lambda: now)
    charge = await client.hold(Ask(size=3000), Answered)
    assert charge is not None
    assert client.headers()["x-ratelimit-remaining-tokens"] == "250"
    assert await charge.extend(Round(body=b"x" * 3000)) == Extension()  # a debt
    charge.end(ended(Answered(80, 0, StatedUsage(300, 20, 320))))
    assert client.headers()["x-ratelimit-remaining-tokens"] == "680"
    charge = await client.hold(Ask(size=400), Answered)
    assert charge is not None
    await charge.extend(Round(body=b"x" * 400))
    charge.end(ended(Answered(400)))  # without usage: by their bytes
    assert client.headers()["x-ratelimit-remaining-tokens"] == "380"


COUNT = st.integers(0, 1000)


@given(st.lists(st.tuples(COUNT, COUNT, st.booleans(), st.integers(0, 1000)), min_size=1))
def test_rounds_add_up(rounds: list[tuple[int, int, bool, int]]) -> None:
    """Each as it was told, or estimated by itself."""
    size = Size(4 * 77, 0)
    found, counts, estimated = Rounds(size), Counts(), False
    usage, written = StatedUsage(0, 0, 0), 0
    for number, (input_, output, told, more) in enumerate(rounds):
        if number:
            came = Answered(written, 0, usage)
            assert found.spent(came) == counts
            found.begin(size, came)
        written += more
        told = told and input_ + output > 0
        if told:
            usage = StatedUsage(
                usage.input_tokens + input_,
                usage.output_tokens + output,
                usage.total_tokens + input_ + output,
            )
            added = Counts(input_, 0, 0, output)
        else:
            added, estimated = Counts(77, 0, 0, -(-more // 4)), True
        counts = Counts(counts.input + added.input, 0, 0, counts.output + added.output)
    end = ended(Answered(written, 0, usage))
    expected = Bill(counts, "all" if estimated else "no", billed=True)
    assert found.bill(end, broken="nothing") == expected


def test_a_last_round_that_costs_nothing_leaves_the_others() -> None:
    found = Rounds(Size())
    told = Answered(40, 0, StatedUsage(30, 10, 40))
    assert found.seen(None) is None
    assert found.seen(Answered()) is None
    found.begin(Size(), told)
    assert found.seen(None) == found.seen(told) == Counts(30, output=10)
    broken = ended(told, "failed")
    assert found.bill(broken, broken="nothing") == Bill(Counts(30, output=10), "no", billed=True)
    some = Answered(80, 0, told.usage)
    broken = ended(some, "failed")
    assert found.bill(broken, broken="nothing").counts == Counts(30, output=10)
    assert found.bill(broken, broken="estimate") == Bill(
        Counts(30, output=20), "output", billed=True
    )
    ours = ended(some, "failed", by_us=True)
    assert not found.bill(ours, broken="estimate").billed
