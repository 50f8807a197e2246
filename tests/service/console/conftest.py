"""The databases of the accounts, for their pages."""

from __future__ import annotations

import pytest

from tests.service.accounts.conftest import (
    books,
    explained,
    key,
    location,
    migrated_file,
    postgres_location,
    postgres_server,
    sqlite_location,
)
from tests.service.accounts.paying import Books
from translator.service.accounts import passwords

from .browsing import PASSWORD, add_user

__all__ = [
    "books",
    "explained",
    "key",
    "location",
    "migrated_file",
    "postgres_location",
    "postgres_server",
    "sqlite_location",
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are compared at once; test_sign_in has the true ones."""
    monkeypatch.setattr(
        passwords, "verify", lambda stored, text: stored is not None and text == PASSWORD
    )


@pytest.fixture
def furnished(books: Books, quick: None) -> None:
    """Two accounts with a user each, an operator, and the prices P."""
    books.account(balance="10")
    books.account("globex", balance="10")
    books.price()
    add_user(books, "anna", "acme")
    add_user(books, "gus", "globex")
    add_user(books, "olga", None)
