"""Targets: the programs that are measured, how each is started, and the request that it gets.

A target is a command, a path and a body. One that cannot be installed or started raises Unavailable
with a sentence for the report.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import msgspec

import translator as translator_package

from .scheduler import pinned

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / ".bench"
KEY = "sk-bench"
START_TIMEOUT_S = 300

RESPONSES_BODY = json.dumps(
    {
        "model": "bench",
        "stream": True,
        "store": False,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Count."}]}],
    }
)
CHAT_BODY = json.dumps(
    {
        "model": "bench",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Count."}],
    }
)


class Unavailable(Exception):
    """A target cannot be measured on this machine; the text says why."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One program in front of the upstream."""

    name: str
    command: Callable[[Path, int, int], list[str]]
    """The command line, from a scratch folder, its port, and the upstream's port."""

    path: str = "/v1/responses"
    body: str = RESPONSES_BODY
    key: str = KEY
    """What its clients send as their API key."""

    environ: Mapping[str, str] = {}
    version: Callable[[], str] = lambda: ""
    most_streams: int = 100_000
    """More paced streams at once would only measure how it fails."""

    slow: bool = False
    """It gets fewer tokens and requests, where their number does not matter."""


class Running(msgspec.Struct, frozen=True):
    """A target that has been started."""

    target: Target
    port: int
    pid: int
    started_s: float
    """From the start of the process to the first answer."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def started(target: Target, upstream_port: int, cpu: int | None) -> Generator[Running]:
    """The target, pinned to a CPU, as long as the context lasts; raises Unavailable."""
    folder = SCRATCH / "run" / re.sub(r"\W+", "-", target.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    command = [*pinned(cpu), *target.command(folder, port, upstream_port)]
    environ = {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT), **target.environ}
    began = time.monotonic()
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - began > START_TIMEOUT_S:
                end = (folder / "output.log").read_text("utf-8", "replace").strip()[-300:]
                raise Unavailable(f"it does not start: {end}")
            time.sleep(0.002)
        yield Running(target, port, process.pid, time.monotonic() - began)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
            os.killpg(process.pid, signal.SIGCONT)  # it may have been stopped
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def _answers(port: int) -> bool:
    """Whether a request gets any answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as probe:
            probe.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            return bool(probe.recv(1))
    except OSError:
        return False


# ---- ourselves -----------------------------------------------------------------------------------


def translator(
    *options: str, name: str = "translator", program: Sequence[str] = ("translator",)
) -> Target:
    """Our service; `program` is the module that starts it, and words before its own."""

    def command(_folder: Path, port: int, upstream: int) -> list[str]:
        words = [sys.executable, "-m", *program, "serve", "--port", str(port)]
        url = f"http://127.0.0.1:{upstream}/v1"
        return [*words, "--upstream", url, "--log-level", "warning", *options]

    return Target(name=name, command=command, version=version_of_ours)


@cache
def version_of_ours() -> str:
    """The version, with the commit where git knows it; as it was when first asked for."""
    version = translator_package.__version__
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version} ({commit})"


# ---- nginx, bytes unmodified -------------------------------------------------------------------

_NGINX_CONF = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000;
    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 100000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def nginx() -> Target:
    def command(folder: Path, port: int, upstream: int) -> list[str]:
        conf = folder / "nginx.conf"
        conf.write_text(_NGINX_CONF.format(folder=folder, port=port, upstream=upstream))
        return [nginx_binary(), "-c", str(conf), "-e", str(folder / "error.log")]

    return Target(
        name="nginx, unmodified",
        command=command,
        path="/v1/chat/completions",
        body=CHAT_BODY,
        version=nginx_version,
    )


def nginx_binary() -> str:
    """The nginx of this machine, else the Debian package unpacked beside the benchmark."""
    installed = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    return installed or str(unpacked("nginx") / "usr" / "sbin" / "nginx")


def unpacked(package: str) -> Path:
    """The folder of an unpacked Debian package, fetched when it is first asked for."""
    folder = SCRATCH / package
    files = folder / "unpacked"
    if not files.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["apt-get", "download", package], cwd=folder, check=True, capture_output=True
            )
            [archive] = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg", "-x", str(archive), str(files)], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder)
            raise Unavailable(f"{package} is not here and apt-get gives none ({error})") from None
    return files


def nginx_version() -> str:
    done = subprocess.run([nginx_binary(), "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("/")[2]
