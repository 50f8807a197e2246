"""The pictures of the pages of accounts, which docs/accounts.md shows.

    python -m tests.browser.pictures           takes them, with the Chromium of these tests
    python -m tests.browser.pictures --check   exit code 1 where the pages have changed since

A browser draws differently on another machine, so no two pictures are compared: each has a digest
of what it shows in its metadata: of the templates, the style sheet, and the books.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.service.accounts.paying import initialized
from tests.service.console import stage
from tests.service.wire import serving
from translator.service.accounts.room import ROOM
from translator.service.config.loading import read_table
from translator.service.config.store import Location
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime

from . import chromium

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONSOLE = ROOT / "translator" / "service" / "console"
COMMAND = "python -m tests.browser.pictures"

NOW = datetime(2026, 11, 30, 15, 0, tzinfo=UTC).timestamp()
"""When the pictures are taken."""

KEYWORD = b"Drawn-Of"
"""Of the metadata with the digest."""

MAX_BYTES = 150_000

PICTURES = {
    "accounts-overview.png": ("anna", "/account/acct_1/", 1100, 860, "light"),
    "accounts-channels.png": ("anna", "/account/acct_1/channels?key=key_2", 1100, 480, "dark"),
    "accounts-operator.png": ("olga", "/account/operator/acct_1", 1100, 900, "light"),
}
"""Who looks at which page, in a window of which size and scheme."""


def digest() -> str:
    """A digest of what the pages are made of."""
    found = hashlib.sha256()
    files = [*CONSOLE.rglob("*.html"), *CONSOLE.rglob("*.css"), Path(str(stage.__file__))]
    for file in sorted(files):
        found.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n"))
    return found.hexdigest()


def with_digest(png: bytes, text: str) -> bytes:
    """A picture with a text chunk after its header."""
    data = b"tEXt" + KEYWORD + b"\0" + text.encode()
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    end_of_header = 8 + 4 + 4 + 13 + 4
    return png[:end_of_header] + chunk + png[end_of_header:]


def digest_in(png: bytes) -> str:
    """The digest in a picture; empty without one."""
    _, found, rest = png.partition(b"tEXt" + KEYWORD + b"\0")
    return rest[:64].decode("latin-1") if found else ""


async def take() -> dict[str, bytes]:
    """The pictures by name."""
    from playwright.async_api import async_playwright

    found = chromium.found()
    if found is None:
        raise chromium.Unavailable("there is no Chromium: make install-browser")
    program, environ = found
    taken: dict[str, bytes] = {}
    offset_s = NOW - time.time()
    with tempfile.TemporaryDirectory() as folder:
        location = Location("sqlite", f"{folder}/accounts.db")
        migrate(location, ROOM)
        initialized(location)
        stage.furnish(location, now_s=offset_s)
        table = {
            "upstreams": {"up": {"base_url": "http://127.0.0.1:9/v1"}},
            "models": stage.MODELS,
            "accounts": {"url": f"sqlite:///{folder}/accounts.db"},
        }
        settings = read_table(table, {})
        async with (
            serving(settings, database_time=DatabaseTime(offset_s)) as url,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(
                executable_path=program,
                args=["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"],
                env=dict(environ),
            )
            for name, (who, path, width, height, scheme) in PICTURES.items():
                page = await browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                await page.goto(f"{url}/account/")
                await page.get_by_label("Name").fill(who)
                await page.get_by_label("Password").fill(stage.PASSWORD)
                await page.get_by_role("button", name="Sign in").click()
                await page.get_by_role("button", name="Sign out").wait_for()
                await page.goto(f"{url}{path}")
                taken[name] = with_digest(await page.screenshot(), digest())
                await page.close()
            await browser.close()
    return taken


def main(words: Sequence[str]) -> int:
    if "--check" in words:
        now = digest()
        old = [
            name
            for name in PICTURES
            if not (DOCS / name).exists() or digest_in((DOCS / name).read_bytes()) != now
        ]
        for name in old:
            print(f"docs/{name} is of other pages: run {COMMAND}, and look", file=sys.stderr)
        return 1 if old else 0
    try:
        for name, png in asyncio.run(take()).items():
            (DOCS / name).write_bytes(png)
            print(f"docs/{name}: {len(png):,} bytes")
    except chromium.Unavailable as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
