"""File descriptors: how many connections they allow, and which errors tell of their end."""

from __future__ import annotations

import errno
import logging
import os
import socket

import aiohttp
import pytest

from translator.service.base import descriptors
from translator.service.base.periodic_warning import PeriodicWarning
from translator.service.config.settings import Server
from translator.service.server.connections import SPARE_DESCRIPTORS, limit_of
from translator.service.upstreams.transport_errors import is_ours


@pytest.mark.parametrize(
    ("files", "limit"),
    [(None, 4000), (10**6, 4000), (65536, 4000), (3000, 1936), (1024, 480), (128, 32), (20, 1)],
)
def test_each_request_needs_two(files: int | None, limit: int) -> None:
    server = Server()
    assert limit_of(server, files) == limit
    if files and files > 64:
        requests = min(limit, server.max_concurrent_requests)
        assert limit + requests + SPARE_DESCRIPTORS <= files


def connector_error(error: OSError) -> aiohttp.ClientConnectorError:
    return aiohttp.ClientConnectorError(None, error)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_an_error_for_want_of_descriptors_is_ours(number: int) -> None:
    assert is_ours(connector_error(OSError(number, "no")))


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_any_other_is_the_upstream_s(number: int) -> None:
    assert not is_ours(connector_error(OSError(number, "no")))
    assert not is_ours(aiohttp.ServerDisconnectedError())


@pytest.mark.parametrize("error", [socket.gaierror(-3, "no name"), OSError("several errors")])
def test_an_error_without_a_telling_number_is_ours_when_none_is_left(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_ours(connector_error(error))

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", none_left)
    assert is_ours(connector_error(error))
    assert descriptors.is_exhaustion(error)


def test_a_warning_has_one_line_per_period(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    warn = PeriodicWarning(logging.getLogger("test"), period_s=60, now=lambda: now)
    for now in (0, 1, 59, 60, 61, 200):
        warn("at %d", now)
    assert [record.getMessage() for record in caplog.records] == [
        "at 0",
        "at 60 (2 more since the last such line)",
        "at 200 (1 more since the last such line)",
    ]
