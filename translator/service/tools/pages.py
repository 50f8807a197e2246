"""Pages: fetched within bounds, read as text in a thread, and kept for a few minutes.

    open = cache | ( request, { redirect, request }, body, text )

Each URL on the way is judged anew. A page is kept for one owner: what one client has opened, in a
private network perhaps, is fetched again for another one.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urljoin

from msgspec import Struct
from msgspec.structs import replace

from translator.service.config.tools import PagesSection

from .addresses import NotAllowed, parsed
from .hosts import Hosts
from .html_text import Document, Link, read_html, read_plain
from .untrusted import harmless, one_line
from .web import Fetched, FetchFailed, WebClient

MAX_REDIRECTS = 5
THREADS = 2
"""Pages that are read at once, which takes up to a second for a large one. More would not be
faster, and everything else would wait longer for its turn."""

_PIECE_BYTES = 64 * 1024

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_PLAIN = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml|javascript|x-ndjson|yaml|toml)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.ASCII)
_CODECS = re.compile(
    r"utf-(?:8|16|16-le|16-be|8-sig)|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|gb18030|gbk|gb2312|big5.*"
    r"|euc_.*|shift_jis.*|tis-620|mac-.*"
)
"""Codecs of text, by the names of Python; it has others, too."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_STATUSES = {
    401: "its server asks for a login",
    403: "its server refuses programs",
    404: "there is no such page",
    410: "there is no such page any more",
}

Allow = Callable[[str], None]
"""Raises NotAllowed for a URL that a request may not open."""


class Page(Struct, frozen=True):
    """A page that has been read: its text in harmless lines, and its numbered links."""

    url: str
    """Where it was found, after redirects."""

    title: str
    lines: tuple[str, ...]
    links: tuple[Link, ...]
    cut: bool
    """Whether it goes on."""


class Pages:
    """Opens pages."""

    def __init__(
        self,
        limits: PagesSection,
        web: WebClient,
        now: Callable[[], float],
        slots: asyncio.Semaphore,
    ) -> None:
        """`slots` bound what is fetched at once; `now` is in seconds of a clock no one sets."""
        self._limits = limits
        self._web = web
        self._now = now
        self._slots = slots
        self._hosts = Hosts(web.get, now, respect_robots=limits.respect_robots)
        self._kept: OrderedDict[tuple[str, str], tuple[float, Page]] = OrderedDict()
        self._threads = ThreadPoolExecutor(THREADS, "pages")

    def close(self) -> None:
        """Wait for no page that is still being read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def open(self, owner: str, url: str, allow: Allow) -> Page:
        """The page at a URL; raises FetchFailed, and NotAllowed."""
        url = parsed(url).geturl()
        allow(url)
        if (kept := self._cached(owner, url, allow)) is not None:
            return kept
        async with self._slots:
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    return await self._fetch(owner, url, allow)
            except TimeoutError:
                raise FetchFailed(f"it took more than {self._limits.timeout_s:g} s") from None

    def _cached(self, owner: str, url: str, allow: Allow) -> Page | None:
        found = self._kept.get((owner, url))
        if found is None or found[0] < self._now():
            return None
        allow(found[1].url)
        return found[1]

    def _keep(self, owner: str, url: str, page: Page) -> None:
        until = self._now() + self._limits.cache_s
        for one in {url, page.url}:
            self._kept[owner, one] = until, page
            self._kept.move_to_end((owner, one))
        while len(self._kept) > self._limits.max_cached_pages:
            self._kept.popitem(last=False)

    async def _fetch(self, owner: str, url: str, allow: Allow) -> Page:
        asked = url
        for _ in range(MAX_REDIRECTS + 1):
            async with self._hosts.turn(url):
                if (kept := self._cached(owner, url, allow)) is not None:
                    return kept  # fetched while this one waited
                answer = await self._web.get(url, self._limits.max_page_bytes)
                self._hosts.answered(url, answer)
                if not answer.location:
                    page = await self._read(url, answer)
                    self._keep(owner, asked, page)
                    return page
            try:
                there = parsed(urljoin(url, answer.location)).geturl()
            except ValueError:
                raise FetchFailed("it redirects to what is not a URL") from None
            if url.startswith("https://") and not there.startswith("https://"):
                raise FetchFailed("it redirects to a URL that is not encrypted")
            allow(there)
            url = there
        raise FetchFailed("it redirects too often")

    async def _read(self, url: str, answer: Fetched) -> Page:
        if answer.status != 200:
            why = _STATUSES.get(answer.status, f"HTTP {answer.status}")
            raise FetchFailed(why)
        read = partial(_page, url, answer, self._limits.max_page_characters)
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)


def _page(url: str, answer: Fetched, max_characters: int) -> Page:
    """The page in an answer. Raises FetchFailed for what is no text."""
    kind = answer.content_type.partition(";")[0].strip().lower()
    body = answer.body
    if kind == "application/pdf" or body.startswith(b"%PDF-"):
        raise FetchFailed("it is a PDF, which cannot be read here")
    is_html = kind in _HTML or (not kind and body.lstrip()[:1] == b"<")
    if not is_html and (
        (kind and not _PLAIN.fullmatch(kind)) or (not kind and b"\0" in body[:1024])
    ):
        raise FetchFailed(f"it is of the type {one_line(kind, 60) or 'unknown'}, which is no text")
    text = _decoded(body, _codec(answer.content_type, body))
    found = read_html(text, url, max_characters) if is_html else read_plain(text, max_characters)
    if not is_html and kind in _HTML:
        found = replace(found, title="")
    return _harmless(url, found, cut=found.cut or answer.cut)


def _decoded(body: bytes, codec: str) -> str:
    """The text of a body, in pieces: nothing else runs while one is decoded."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    pieces = range(0, len(body), _PIECE_BYTES)
    texts = [decoder.decode(body[at : at + _PIECE_BYTES]) for at in pieces]
    return "".join([*texts, decoder.decode(b"", final=True)])


def _harmless(url: str, found: Document, *, cut: bool) -> Page:
    return Page(
        harmless(url),
        one_line(found.title, 200),
        tuple(map(harmless, found.lines)),
        tuple(Link(link.url, one_line(link.text, 100)) for link in found.links),
        cut,
    )


def _codec(content_type: str, body: bytes) -> str:
    """The codec of a page, by its header, its first bytes, or what it says itself; else UTF-8."""
    for mark, name in _BOMS:
        if body.startswith(mark):
            return name
    head = str(body[:2048], "latin-1")
    for text in (content_type, head):
        if found := _CHARSET.search(text):
            try:
                name = codecs.lookup(found[1]).name
            except LookupError:
                continue
            if _CODECS.fullmatch(name):
                return "cp1252" if name in ("iso8859-1", "ascii") else name  # as browsers do
    return "utf-8"


__all__ = ["Allow", "FetchFailed", "NotAllowed", "Page", "Pages"]
