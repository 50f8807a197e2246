from __future__ import annotations

from tests.service.conftest import no_proxy

__all__ = ["no_proxy"]
