"""Paths that are nearly right: those that can only mean one endpoint, and the nearest of others.

    //v1//responses/   /v1/v1/responses   ──►  the endpoint /v1/responses
    /v1/response   /api/v1/responses      ──►  404: did you mean /v1/responses?

They come from base URLs with a slash too many, or to which a client has added `/v1` itself.
"""

from __future__ import annotations

from collections.abc import Collection

CUTOFF = 0.8
"""How alike two paths have to be, by the measure of difflib, for one to be suggested."""

MAX_COMPARED = 100
"""Longest path that is compared, in characters."""


def plain_path(path: str) -> str:
    """The path without empty parts and without `/v1` at its beginning."""
    parts = [part for part in path.split("/") if part]
    first = 0
    while first < len(parts) and parts[first] == "v1":
        first += 1
    return f"/{'/'.join(parts[first:])}"


def nearest_path(path: str, known: Collection[str]) -> str | None:
    """The endpoint that a path may mean; None where none is near. `known` are without `/v1`."""
    from difflib import get_close_matches  # few ask for it

    plain = plain_path(path[:MAX_COMPARED]).lower()
    ends = [one for one in known if plain.endswith(one)]
    begins = [one for one in known if one.startswith(f"{plain}/")]
    close = [*ends, *begins, *get_close_matches(plain, known, 1, CUTOFF)]
    return f"/v1{close[0]}" if close else None
