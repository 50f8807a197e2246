"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _version() -> str:
    try:
        return version("translator")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


VERSION = _version()
