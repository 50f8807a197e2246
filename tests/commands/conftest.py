from __future__ import annotations

import os

import pytest

from tests.service.conftest import no_proxy

__all__ = ["no_proxy"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are given by no variable but those of the test."""
    for name in os.environ:
        if name.startswith("TRANSLATOR_"):
            monkeypatch.delenv(name)
