"""A PostgreSQL server for tests, on a scratch folder and a Unix socket, and a pooler before it.

    python -m tests.service.store.postgres     downloads both into .rooms, if not on the PATH

The packages are Debian's, unpacked and not installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[3]
UNPACKED = ROOT / ".rooms" / "postgresql"
UNPACKED_POOLER = ROOT / ".rooms" / "pgbouncer"
START_S = 60

NOT_NEEDED = ("libllvm", "libc6", "libgcc", "libstdc++", "libcrypt")
"""Of its libraries: a compiler for queries, and what every machine has."""

QUICK = ("fsync=off", "synchronous_commit=on", "full_page_writes=off", "max_connections=50")
"""Nothing of it need outlive the machine."""


def programs() -> Path | None:
    """The folder with `postgres` and `initdb`; None where they are not here."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres", path=str(Path(found).parent)):
        return Path(found).resolve().parent
    for folder in UNPACKED.glob("usr/lib/postgresql/*/bin"):
        if (folder / "postgres").exists():
            return folder
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        # only where PATH shows that databases are not hidden from the tests on purpose
        if shutil.which("pg_lsclusters") and (folder / "postgres").exists():
            return folder
    return None


def pooler() -> Path | None:
    """The program of PgBouncer; None where it is not here."""
    found = shutil.which("pgbouncer")
    unpacked = UNPACKED_POOLER / "usr" / "sbin" / "pgbouncer"
    return Path(found) if found else unpacked if unpacked.exists() else None


def needed(find: Callable[[], Path | None] = programs) -> Path:
    """What `find` finds; without it the test is skipped, or fails where a database is required."""
    found = find()
    if found is not None:
        return found
    sentence = "PostgreSQL or PgBouncer is not here: `make install-database` fetches both"
    if os.environ.get("TRANSLATOR_REQUIRE_DATABASE", "") not in ("", "0"):
        pytest.fail(sentence)
    pytest.skip(sentence)


class Server:
    """A running server."""

    def __init__(self, folder: Path, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        """`start` starts its first process."""
        self.folder = folder
        self._start = start
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it can be connected to."""
        self.process = self._start()
        _wait_for(self)

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        self.signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(START_S)

    def url(self, database: str) -> str:
        return f"postgresql://tests@/{database}?host={self.folder}"

    def create(self, database: str) -> None:
        self.execute("postgres", f"CREATE DATABASE {database}")

    def execute(self, database: str, *statements: str) -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and all of its processes, each of which leads a session."""
        first = self.process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def server(bin_folder: Path) -> Generator[Server]:
    """A server for as long as the context lasts, as a user without privileges."""
    folder = Path(tempfile.mkdtemp(prefix="tr-pg-"))
    user = None
    if os.geteuid() == 0:
        user = "nobody"
        shutil.chown(folder, user)
    environ = _environment(bin_folder, UNPACKED)
    data = folder / "data"
    try:
        subprocess.run(
            [bin_folder / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-N", "-E", "UTF8",
             "--locale=C"],
            user=user, env=environ, cwd=folder, check=True, capture_output=True, timeout=START_S,
        )  # fmt: skip
        options = [word for one in QUICK for word in ("-c", one)]
        processes: list[subprocess.Popen[bytes]] = []

        def start() -> subprocess.Popen[bytes]:
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    [bin_folder / "postgres", "-D", data, "-k", folder, "-h", "", *options],
                    user=user, env=environ, cwd=folder, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
            processes.append(process)
            return process

        try:
            running = Server(folder, start)
            yield running
            running.stop()
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait(START_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(program: Path, unpacked: Path) -> dict[str, str]:
    environ = {**os.environ, "LC_ALL": "C"}
    if program.is_relative_to(unpacked):
        libraries = sorted({str(one.parent) for one in unpacked.glob("usr/lib/**/*.so.*")})
        environ["LD_LIBRARY_PATH"] = ":".join(libraries)
    return environ


POOLER_SETTINGS = """\
[databases]
* = host={server} user=tests
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_reset_query =
"""
"""Two sessions of the server for each database, so that clients have to take turns."""


@contextmanager
def pooling(program: Path, server: Server) -> Generator[Callable[[str], str]]:
    """PgBouncer in transaction mode before a server; yields what makes the URL of a database."""
    folder = Path(tempfile.mkdtemp(prefix="tr-pgb-"))
    user = None
    if os.geteuid() == 0:
        user = "nobody"
        shutil.chown(folder, user)
    settings = folder / "pgbouncer.ini"
    settings.write_text(POOLER_SETTINGS.format(server=server.folder, folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, settings], user=user, env=_environment(program, UNPACKED_POOLER),
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip

    def url(database: str) -> str:
        return f"postgresql://tests@/{database}?host={folder}&port=6432"

    try:
        _connect_to(url("postgres"), process, folder / "log")
        yield url
    finally:
        process.kill()
        process.wait(START_S)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(running: Server) -> None:
    _connect_to(running.url("postgres"), running.process, running.folder / "log")


def _connect_to(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            said = log.read_text("utf-8", "replace")
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        else:
            return


# --- downloading ---------------------------------------------------------------------------------


def install() -> None:
    """Download and unpack the server's package and its libraries."""
    found = _dependencies("postgresql")
    servers = [name for name in found if name.removeprefix("postgresql-").isdigit()]
    server = max(servers, key=lambda name: int(name.rpartition("-")[2]))
    _unpack([server, *_libraries(found)], UNPACKED)


def install_pooler() -> None:
    """Download and unpack PgBouncer's package and its libraries."""
    found = _dependencies("pgbouncer")
    _unpack(["pgbouncer", *_libraries(found)], UNPACKED_POOLER)


def _unpack(names: Sequence[str], folder: Path) -> None:
    parts = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    subprocess.run(["apt-get", "download", *names], cwd=parts, check=True, capture_output=True)
    for archive in parts.glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, parts], check=True)
        archive.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    parts.rename(folder)


def _dependencies(package: str) -> set[str]:
    """The packages that a package of Debian's needs, itself included."""
    asked = subprocess.run(
        ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
         "--no-breaks", "--no-replaces", "--no-enhances", package],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {line for line in asked.stdout.splitlines() if line[:1].isalnum()}


def _libraries(packages: Collection[str]) -> list[str]:
    return sorted(
        name
        for name in packages
        if name.startswith(("lib", "zlib")) and not name.startswith(NOT_NEEDED) and ":" not in name
        and not name.endswith("perl") and "-perl" not in name
    )  # fmt: skip


def main() -> int:
    wanted = {
        "PostgreSQL": install if programs() is None else None,
        "PgBouncer": install_pooler if pooler() is None else None,
    }
    for name, fetch in wanted.items():
        if fetch is None:
            continue
        print(f"Downloading {name} into .rooms (once) ...")
        try:
            fetch()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            detail = (getattr(error, "stderr", b"") or b"").decode("utf-8", "replace")
            print(f"{name} cannot be had: {error}\n{detail}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
