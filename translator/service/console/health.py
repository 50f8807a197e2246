"""The operator's page of the health of the books."""

from __future__ import annotations

from itertools import islice

from translator.service.accounts.health import health as health_of
from translator.service.accounts.reconcile import differences, losses
from translator.service.database.connection import Connection

from .visit import View, Visit

MAX_LINES = 100
"""Differences that are shown; `translator account reconcile` prints them all."""


def health(visit: Visit, connection: Connection) -> View:
    """Open holds, processes, orphans; and where it is asked for, whether all figures agree."""
    asked = "reconcile" in visit.request.query
    return visit.page(
        "health",
        "Health",
        health=health_of(connection),
        lease_us=visit.context.lease_us,
        asked=asked,
        differences=list(islice(differences(connection), MAX_LINES)) if asked else [],
        losses=list(islice(losses(connection), MAX_LINES)) if asked else [],
    )
