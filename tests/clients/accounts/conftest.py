"""A service with accounts on a scripted upstream, and the clients of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.clients.codex.session import Session
from tests.clients.conftest import serving
from tests.clients.recorder import Recorder
from tests.clients.upstream import ScriptedUpstream
from translator.service.accounts import books, key_book, price_book
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.money import read_amount, read_price
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.room import ROOM
from translator.service.base.keys import new_key, store
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, writing
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime


class Gateway:
    """A running service with one account; `recorder` stands before it."""

    def __init__(self, upstream: ScriptedUpstream, file: Path, url: str) -> None:
        self.upstream = upstream
        self.url = url
        self._location = Location("sqlite", str(file))

    @property
    def model(self) -> str:
        return self.upstream.spoken.model

    @contextmanager
    def changing(self) -> Generator[Connection]:
        """A transaction on the database, beside the service."""
        with closing(connect(self._location, DatabaseTime())) as connection:
            with writing(connection):
                yield connection

    def key(self, *, balance: str = "", **limits: object) -> str:
        """A new key of a new account."""
        text = new_key()
        with self.changing() as connection:
            name = f"account {len(books.accounts(connection))}"
            books.add_account(connection, name)
            if balance:
                books.top_up(connection, name, read_amount(balance), name, "tests")
            key_book.add_key(connection, name, "key", store(text), Limits(**limits))  # type: ignore[arg-type]
        return text


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """The service, whose upstream has been asked for nothing yet."""
    shared_gateway.upstream.play()
    return shared_gateway


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The service: 1.00 per million tokens of input, 2.00 of output."""
    folder = tmp_path_factory.mktemp("gateway")
    file = folder / "accounts.db"
    location = Location("sqlite", str(file))
    migrate(location, ROOM)
    with ScriptedUpstream() as upstream:
        model = upstream.spoken.model
        price = PriceRow(model, input=read_price("1.00"), output=read_price("2.00"))
        with closing(connect(location, DatabaseTime())) as connection, writing(connection):
            books.initialize(connection, "USD")
            price_book.set_price(connection, price, "tests")
        settings = folder / "settings.toml"
        settings.write_text(
            f'[upstreams.up]\nbase_url = "{upstream.base_url}"\n'
            f'dialect = "{upstream.spoken.name}"\napi_key_env = "UP_KEY"\n'
            f'[models.{json.dumps(model)}]\nupstream = "up"\nmax_output_tokens = 4000\n'
            f"[accounts]\nurl = {json.dumps(f'sqlite:///{file}')}\n"
        )
        os.environ["UP_KEY"] = "of-the-operator"
        try:
            with serving(None, "--config", str(settings)) as url:
                yield Gateway(upstream, file, url)
        finally:
            del os.environ["UP_KEY"]


@pytest.fixture
def recorder(gateway: Gateway) -> Iterator[Recorder]:
    """What passes between a client and the service."""
    with Recorder(gateway.url) as found:
        yield found


@pytest.fixture
def codex_with_key(
    codex_binary: str, tmp_path: Path, gateway: Gateway, recorder: Recorder
) -> Callable[[str], Session]:
    """Codex with a key of the service."""

    def start(key: str) -> Session:
        session = Session(codex_binary, tmp_path, recorder, gateway.model)
        session.key = key
        return session

    return start
