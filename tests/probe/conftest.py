from __future__ import annotations

from functools import cache

import httpx
import pytest

from tests.service.conftest import no_proxy

__all__ = ["no_proxy"]

_tls_context = cache(httpx.create_ssl_context)


@pytest.fixture(autouse=True)
def one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the certificates for each connection of a probe takes longer than the rest."""
    monkeypatch.setattr(httpx, "create_ssl_context", _tls_context)
