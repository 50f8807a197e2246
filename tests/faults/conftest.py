from __future__ import annotations

from tests.service.conftest import anyio_backend, no_proxy, upstream

__all__ = ["anyio_backend", "no_proxy", "upstream"]
