"""The service as a process: listening sockets, a start-up line, a server until a signal.

The sockets are bound before the server starts. So a taken port is one sentence, the line shows the
real number for port 0, and a client that reads it can connect at once.
"""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import uvicorn

from translator.service.base.drain import Drain
from translator.service.config.secrets import settings_secrets
from translator.service.config.settings import Settings
from translator.service.http.app import create_app
from translator.service.telemetry.logs import start_logging
from translator.service.telemetry.shared_metrics import reserve_files

from .graceful_shutdown import GracefulServer
from .listeners import BACKLOG, announce, limit_unread_data, listen, listen_for_metrics
from .observers import observing
from .own_address import check_upstreams
from .protocols import protocols
from .shutdown_times import SHUTDOWN_S
from .worker_channel import WorkerChannel

GC_THRESHOLDS = (50_000, 10, 20)
"""How many new objects, and how many smaller collections, trigger a garbage collection. By Python's
own 700, a request of 4 MB would trigger a hundred, and all streams stall for each."""


def run(
    settings: Settings,
    *,
    log_level: str,
    watch: bool = False,
    channel: WorkerChannel | None = None,
) -> int:
    """Serve until a signal; `watch` shows a live view of requests on stdout.

    `channel` is that of one worker among several. Raises SettingsError when the address, or the
    folder for traces, cannot be used.
    """
    server = settings.server
    with ExitStack() as stack:
        if channel is not None:
            channel.end_with_parent(server.drain_s + SHUTDOWN_S)
            sockets = channel.listeners
        else:
            sockets = [listen(server.host, server.port, reuse_port=server.reuse_port)]
            sockets += listen_for_metrics(server)
        for sock in sockets:
            stack.enter_context(sock)
            limit_unread_data(sock, server.client_timeout_s)
        check_upstreams(settings, sockets)
        show = None
        if watch:
            from translator.service.live.terminal import open_view

            show = stack.enter_context(closing(open_view(sys.stdout)))
        stream = None if show is None else show.log_stream(sys.stderr)
        secrets = settings_secrets(settings)
        start_logging(log_level, settings.server.log_format, stream, secrets)
        observe = stack.enter_context(observing(settings, show))
        if channel is not None and server.metrics:
            reserve_files(len(settings.models), store=settings.store is not None)
        drain = Drain()
        new_client = None if channel is None else channel.client_factory(settings)
        peers = None
        if channel is not None and settings.serves_page:
            peers = channel.open_peers()
        config = uvicorn.Config(
            create_app(settings, observe=observe, drain=drain, new_client=new_client, peers=peers),
            access_log=False,
            backlog=BACKLOG,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            **protocols(settings.server),
        )
        if channel is None:
            announce(settings, sockets[0])
        service = GracefulServer(config, drain, server.drain_s, channel)
        # uvicorn shuts down, and then raises the signal again under the handler it found
        signal.signal(signal.SIGTERM, _end)
        gc.freeze()  # objects that live as long as the process need not be searched
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()  # `commands.serve` has it off
        try:
            service.run(sockets=sockets)
        except KeyboardInterrupt:
            return 130
        finally:
            if channel is not None:
                channel.close()
            if peers is not None:
                Path(peers.getsockname()).unlink(missing_ok=True)
                peers.close()
    return 0


def _end(*_: object) -> None:
    sys.exit(0)
