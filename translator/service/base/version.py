"""The version of the service: that of the package."""

from __future__ import annotations

from translator import __version__ as VERSION  # noqa: N812 - a constant

__all__ = ["VERSION"]
