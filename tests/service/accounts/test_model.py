"""The transactions beside a model of them, as a state machine: what must always hold, does.

The invariants that are no matter of transactions have tests elsewhere: 8 in `test_kills`, 12 over
processes in `test_keys`, 13 over HTTP, 16 in `test_keys`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.service.store import postgres
from translator.service.config.store import Location
from translator.service.database.connection import connect
from translator.service.database.statement import DatabaseTime

from .conftest import emptied
from .model import Both
from .paying import initialized

INDEX = st.integers(0, 20)
AMOUNT = st.integers(1, 10**7)
FIGURE = st.integers(0, 5000)
PART = st.integers(0, 100)
FEW = st.integers(0, 400)
TIMES = st.integers(1, 2)

EVERY_WAY: list[tuple[str, tuple[Any, ...]]] = [
    ("add_key", (0, 10**6)),
    ("set_price", (600, 2500, 100, 7)),
    ("set_call_price", (900,)),
    ("give_credit", (0, 1000)),
    ("hold", (0, 100, 300, True)),
    ("extend", (0, 50, 100, 300, True)),
    ("call", (0, True)),
    ("call", (0, False)),
    ("hold", (1, 100, 300, False)),
    ("end", (1, 100, True, 2)),
    ("end", (1, 100, False, 1)),
    ("checkpoint", (0, 100)),
    ("checkpoint", (1, 200)),
    ("die", (0,)),
    ("come_back", (0, 300, 2)),
    ("set_price", (1200, 5000, None, 0)),
    ("extend", (0, 100, 10, 20, False)),
    ("end", (0, 50, True, 2)),
    ("hold", (1, 100, 300, False)),
    ("hold", (1, 100, 300, False)),
    ("die", (0,)),
    ("come_back", (1, 100, 1)),
    ("give_up", (0,)),
    *[("hold", (0, 500, 500, False))] * 8,
    ("extend", (0, 100, 500, 500, False)),
    ("set_price", (0, 0, None, 0)),
    ("hold", (0, 500, 500, False)),
    ("end", (0, 100, True, 1)),
    ("adjust", (0, -(10**7))),
    ("hold", (0, 500, 500, False)),
    ("extend", (5, 100, 1, 1, False)),
    ("suspend", (0,)),
    ("hold", (0, 1, 1, False)),
    ("extend", (0, 0, 1, 1, False)),
    ("suspend", (0,)),
    *[("hold", (1, 1, 1, False))] * 6,  # by a key with five in a minute
    *[("call", (number, True)) for number in range(12)],
    *[("call", (1, False))] * 2,
    *[("die", (0,))] * 2,
    *[("come_back", (number, 200, 1)) for number in range(4)],
    ("expire", (1,)),
    ("revoke", (0,)),
    ("hold", (0, 1, 1, False)),
    ("call", (0, True)),
]


class BooksMachine(RuleBasedStateMachine):
    """The rules; `location` makes an empty database for each run."""

    location: Any

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        location: Location = self.stack.enter_context(self.location())
        self.both = Both(
            [self.stack.enter_context(closing(connect(location, DatabaseTime()))) for _ in range(2)]
        )

    @initialize(price=st.tuples(FIGURE, FIGURE, st.none() | FIGURE, FIGURE), amount=AMOUNT)
    def begin(self, price: tuple[int, int, int | None, int], amount: int) -> None:
        self.both.set_price(*price)
        self.both.top_up(0, amount, twice=False)

    @rule(which=INDEX, amount=AMOUNT, twice=st.booleans())
    def top_up(self, which: int, amount: int, twice: bool) -> None:
        self.both.top_up(which, amount, twice)

    @rule(which=INDEX, amount=st.integers(-(10**6), 10**6))
    def adjust(self, which: int, amount: int) -> None:
        self.both.adjust(which, amount)

    @rule(which=INDEX, amount=st.integers(0, 10**6))
    def give_credit(self, which: int, amount: int) -> None:
        self.both.give_credit(which, amount)

    @rule(input_=FIGURE, output=FIGURE, cached=st.none() | FIGURE, per_request=FIGURE)
    def set_price(self, input_: int, output: int, cached: int | None, per_request: int) -> None:
        self.both.set_price(input_, output, cached, per_request)

    @rule(per_request=FIGURE)
    def set_call_price(self, per_request: int) -> None:
        self.both.set_call_price(per_request)

    @rule(which=INDEX, limit=st.none() | AMOUNT, limited=st.booleans())
    def add_key(self, which: int, limit: int | None, limited: bool) -> None:
        self.both.add_key(which, limit, limited=limited)

    @rule(which=INDEX, how=st.sampled_from(["revoke", "expire", "suspend"]))
    def refuse(self, which: int, how: str) -> None:
        getattr(self.both, how)(which)

    @rule(which=INDEX, input_=st.integers(0, 500), asked=st.integers(1, 500), again=st.booleans())
    def hold(self, which: int, input_: int, asked: int, again: bool) -> None:
        self.both.hold(which, input_, asked, again)

    @rule(which=INDEX, input_=st.integers(0, 100), asked=st.integers(1, 100))
    def hold_little(self, which: int, input_: int, asked: int) -> None:
        self.both.hold(which, input_, asked, again=False)

    @rule(which=INDEX, output=PART, input_=FEW, asked=st.integers(1, 400), twice=st.booleans())
    def extend(self, which: int, output: int, input_: int, asked: int, twice: bool) -> None:
        self.both.extend(which, output, input_, asked, twice)

    @rule(which=INDEX, within=st.booleans())
    def call(self, which: int, within: bool) -> None:
        self.both.call(which, within)

    @rule(which=INDEX, part=PART, billed=st.booleans(), times=TIMES)
    def end(self, which: int, part: int, billed: bool, times: int) -> None:
        self.both.end(which, part, billed, times)

    @rule(which=INDEX, output=FEW)
    def checkpoint(self, which: int, output: int) -> None:
        self.both.checkpoint(which, output)

    @rule(which=INDEX)
    def die(self, which: int) -> None:
        self.both.die(which)

    @rule(which=INDEX, output=FEW, times=TIMES)
    def come_back(self, which: int, output: int, times: int) -> None:
        self.both.come_back(which, output, times)

    @rule(which=INDEX)
    def give_up(self, which: int) -> None:
        self.both.give_up(which)

    @invariant()
    def holds_true(self) -> None:
        self.both.check()
        self.both.turns += 1

    def teardown(self) -> None:
        with self.stack:
            self.both.check_at_end()


def run(location: Any, examples: int) -> None:
    machine = type("Books", (BooksMachine,), {"location": staticmethod(location)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            phases=(Phase.reuse, Phase.generate),  # shorter failures would take minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def _sqlite(migrated: Path) -> Generator[Location]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "accounts.db"
        shutil.copy(migrated, file)
        location = Location("sqlite", str(file))
        initialized(location)
        yield location


@pytest.fixture
def both(location: Location) -> Iterator[Both]:
    with ExitStack() as stack:
        yield Both(
            [stack.enter_context(closing(connect(location, DatabaseTime()))) for _ in range(2)]
        )


def test_every_way_once(both: Both) -> None:
    """So that each rule is met, whatever is drawn."""
    both.set_price(600, 2500, 100, 7)
    both.top_up(0, 10**7, twice=False)
    for name, arguments in EVERY_WAY:
        more = {"limited": True} if name == "add_key" else {}
        getattr(both, name)(*arguments, **more)
        both.check()
        both.turns += 1
    both.check_at_end()
    assert {one.is_call for one in both.ended} == {True, False}


def test_a_tool_without_a_price_is_run_for_who_owes(both: Both) -> None:
    """A late settlement may cost more than there is; the next request is refused, this call not."""
    both.set_price(1, 10, None, 0)
    both.top_up(0, 100, twice=False)
    both.hold(0, 0, 10, again=False)
    both.die(0)
    both.come_back(0, 400, 1)
    both.check()
    assert both.balance["acme"] < 0
    both.hold(0, 0, 10, again=False)
    assert not both.holds
    both.call(0, within=False)
    assert [one.amount for one in both.holds] == [0]
    both.check()
    both.check_at_end()


@pytest.mark.hypothesis
def test_every_figure_follows_from_rows_that_never_change(migrated_file: Path) -> None:
    run(lambda: _sqlite(migrated_file), 40)


@pytest.mark.hypothesis
def test_every_figure_follows_from_rows_on_postgresql(postgres_server: postgres.Server) -> None:
    @contextmanager
    def location() -> Generator[Location]:
        yield emptied(postgres_server)

    run(location, 15)
