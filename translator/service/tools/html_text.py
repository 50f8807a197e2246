"""HTML as lines of text, with numbered links.

    # Heading
    Words with [3│a link] in them, in lines of at most LINE_CHARACTERS
    - an item of a list
    a cell | the next cell

What surrounds a page (`nav`, `aside`, `footer`) is left out, and what is no text (`script`, …). The
work is linear in the size of the page, whatever is in it; html.parser's is not. Nothing is raised
for any text.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin

from msgspec import Struct

LINE_CHARACTERS = 160
PIECE_CHARACTERS = 16_384
_ENTITY_CHARACTERS = 40

MAX_TAGS = 200_000
"""Most tags of a page that are read; the text behind them is left out."""

MAX_LINKS = 2000
"""Most links of a page that are numbered."""

MAX_HREFS = 10_000
"""Most links that are looked at: of many there is nothing to see."""

MAX_LINK_CHARACTERS = 2048
MAX_ATTRIBUTES = 100
"""Most attributes of a tag that are read; its end is then the next `>`."""

_NAME = re.compile(r"</?([A-Za-z][^\s/>]{0,63})[^\s/>]*+")
_ATTRIBUTE = re.compile(
    r"[\s/]{0,1000}+([^\s=>/][^\s=>/]{0,1000}+)(?:\s{0,1000}+=\s{0,1000}+([\"']?))?"
)
_UNQUOTED = re.compile(r"[^\s>]{0,4096}+")
_SPACE = re.compile(r"[ \t\r\n\f]+")

_RAW = frozenset(
    "script style noscript template textarea title iframe noembed noframes xmp".split()
)
"""Elements whose content is text for HTML, up to their end tag."""

_SKIPPED = frozenset("nav aside footer svg math object select button form dialog canvas".split())
_SURROUNDING = _SKIPPED - {"svg", "math", "object", "canvas"}
_BLOCKS = frozenset(
    "address article blockquote body br caption center dd details div dl dt fieldset figcaption"
    " figure h1 h2 h3 h4 h5 h6 header hr html legend li main ol optgroup option p pre section"
    " summary table tbody tfoot thead tr ul".split()
)
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_CELLS = frozenset({"td", "th"})


class Link(Struct, frozen=True):
    """A link of a page: an absolute URL, and its text."""

    url: str
    text: str


class Document(Struct, frozen=True):
    """The text of a page, in lines, and its links, in the order of their numbers."""

    title: str
    lines: tuple[str, ...]
    links: tuple[Link, ...] = ()
    cut: bool = False
    """Whether there is more text than was wanted."""


def read_html(text: str, url: str, max_characters: int) -> Document:
    """The document of a page at a URL; at most `max_characters` of its text."""
    found = _Reader(text, url, max_characters, _SKIPPED).read()
    if not found.lines:  # all of it in a form, say, or in what was never closed
        found = _Reader(text, url, max_characters, _SKIPPED - _SURROUNDING).read()
    return found


def read_plain(text: str, max_characters: int) -> Document:
    """The document of a text that is none of HTML."""
    lines: list[str] = []
    for line in text[:max_characters].splitlines():
        lines += wrapped(line.rstrip(), keep_spaces=True)
    return Document("", tuple(lines), cut=len(text) > max_characters)


def wrapped(line: str, *, keep_spaces: bool = False) -> list[str]:
    """A line in parts of at most LINE_CHARACTERS, between words where there are any."""
    parts: list[str] = []
    at = 0
    while len(line) - at > LINE_CHARACTERS:
        end = line.rfind(" ", at + 1, at + LINE_CHARACTERS + 1)
        if end < 0:
            end = at + LINE_CHARACTERS
        parts.append(line[at:end])
        at = end if keep_spaces or line[end : end + 1] != " " else end + 1
    return [*parts, line[at:]]


class _Reader:
    """Reads one page."""

    __slots__ = (
        *("_base", "_cut", "_depth", "_has_words", "_href", "_hrefs", "_left", "_lines"),
        *(
            "_link_start",
            "_links",
            "_pre",
            "_prefix",
            "_skipped",
            "_skipping",
            "_tags",
            "_text",
            "_title",
        ),
        "_words",
    )

    def __init__(self, text: str, url: str, max_characters: int, skipped: frozenset[str]) -> None:
        self._text = text
        self._base = url
        self._left = max_characters
        self._skipped = skipped
        self._skipping = ""  # the element that is skipped,
        self._depth = 0  # and how many of that name are open
        self._title = ""
        self._lines: list[str] = []
        self._words: list[str] = []  # of the line that is being read
        self._prefix = ""
        self._pre = 0
        self._links: list[Link] = []
        self._hrefs = 0
        self._href = ""  # of the link that is open,
        self._link_start = 0  # and where its words begin
        self._has_words = False  # whether the line has more than spaces
        self._tags = 0
        self._cut = False

    def read(self) -> Document:
        text, at = self._text, 0
        while not self._cut:
            tag = text.find("<", at)
            if tag < 0:
                self._add(text[at:])
                break
            if tag > at:
                self._add(text[at:tag])
            at = self._tag(tag)
            if at < 0:
                break
        self._end_link()
        self._end_line()
        lines = self._lines
        while lines and not lines[-1]:
            lines.pop()
        return Document(self._title, tuple(lines), tuple(self._links), self._cut)

    def _tag(self, at: int) -> int:
        """Read what begins with a `<`; where it ends, or -1 at the end of the page."""
        text = self._text
        if text.startswith("<!--", at):
            end = text.find("-->", at + 4)
            return end + 3 if end >= 0 else -1
        found = _NAME.match(text, at)
        if found is None:
            if text[at + 1 : at + 2] in ("!", "?", "/"):
                return text.find(">", at) + 1 or -1
            self._add("<")
            return at + 1
        self._tags += 1
        self._cut = self._cut or self._tags > MAX_TAGS
        name = found[1].lower()
        closes = text[at + 1] == "/"
        attributes: dict[str, str] = {}
        if self._skipping:
            end = text.find(">", found.end()) + 1 or -1
        else:
            attributes, end = self._attributes(found.end())
        if end < 0:
            return -1
        if not closes and name in _RAW:
            close = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(text, end)
            if close is None:
                return -1
            if name == "title" and not self._title and not self._skipping:
                self._title = _plain(text[end : min(close.start(), end + 1000)])
            return close.start()
        if self._skipping:
            if name == self._skipping:
                self._depth += -1 if closes else 1
                if self._depth == 0:
                    self._skipping = ""
        elif name in self._skipped:
            if not closes:
                self._skipping, self._depth = name, 1
                self._end_line()
        elif closes:
            self._close(name)
        else:
            self._open(name, attributes)
        return end

    def _attributes(self, at: int) -> tuple[dict[str, str], int]:
        """The attributes of a tag, and where it ends; -1 at the end of the page."""
        text = self._text
        found: dict[str, str] = {}
        for _ in range(MAX_ATTRIBUTES):
            one = _ATTRIBUTE.match(text, at)
            if one is None:
                break
            begin = at = one.end()
            if one[2]:
                at = text.find(one[2], begin)
                if at < 0:
                    return found, -1
            elif one[2] is not None and (value := _UNQUOTED.match(text, at)) is not None:
                at = value.end()
            end = min(at, begin + 2 * MAX_LINK_CHARACTERS)
            found.setdefault(one[1].lower(), text[begin:end])
            at += bool(one[2])
        end = text.find(">", at)
        return found, end + 1 if end >= 0 else -1

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        if name == "a":
            self._end_link()
            self._href = self._absolute(attributes.get("href", ""))
            self._link_start = len(self._words)
        elif name == "base":
            self._base = self._absolute(attributes.get("href", "")) or self._base
        elif name == "img":
            if alt := _plain(attributes.get("alt", "")):
                self._add(f" [image: {alt[:200]}] ")
        elif name in _CELLS:
            if self._has_words:
                self._words.append(" | ")
        elif name in _BLOCKS:
            self._end_line()
            if name == "pre":
                self._pre += 1
            elif name == "li":
                self._prefix = "- "
            elif name in _HEADINGS:
                self._blank()
                self._prefix = f"{_HEADINGS[name]} "
            elif name in ("p", "table", "ul", "ol", "blockquote", "section", "article"):
                self._blank()

    def _close(self, name: str) -> None:
        if name == "a":
            self._end_link()
        elif name in _BLOCKS:
            self._end_line()
            if name == "pre":
                self._pre = max(0, self._pre - 1)
            elif name in _HEADINGS or name == "p":
                self._blank()

    def _add(self, raw: str) -> None:
        """Add text between two tags, in pieces: nothing else runs while one is searched."""
        at = 0
        while at < len(raw) and not self._skipping and not self._cut:
            end = at + PIECE_CHARACTERS
            if end < len(raw):
                entity = raw.rfind("&", max(at + 1, end - _ENTITY_CHARACTERS), end)
                end = entity if entity > 0 else end
            self._add_piece(raw[at:end])
            at = end

    def _add_piece(self, raw: str) -> None:
        text = _unescaped(raw)
        if not self._pre:
            self._take(_SPACE.sub(" ", text))
            return
        first, *others = text.replace("\r\n", "\n").split("\n")
        self._take(first)
        for line in others:
            self._end_line(keep=True)
            self._take(line)

    def _take(self, text: str) -> None:
        if len(text) > self._left:
            text, self._cut = text[: max(0, self._left)], True
        self._left -= len(text)
        if text:
            self._words.append(text)
            self._has_words = self._has_words or not text.isspace()

    def _end_link(self) -> None:
        """End the link that is open: its text becomes `[number│text]`."""
        href, self._href = self._href, ""
        if not href:
            return
        text = "".join(self._words[self._link_start :])
        label = " ".join(text.split())
        if not label or len(self._links) >= MAX_LINKS:
            return
        before = " " if text[:1].isspace() else ""
        after = " " if text[-1:].isspace() else ""
        number = len(self._links)
        self._links.append(Link(href, label[:200]))
        self._words[self._link_start :] = [f"{before}[{number}│{label}]{after}"]

    def _end_line(self, *, keep: bool = False) -> None:
        """End the line that is being read; `keep`: also an empty one."""
        href = self._href
        self._end_link()
        self._href = href  # a link around blocks goes on
        text = "".join(self._words)
        self._words = []
        self._has_words = False
        self._link_start = 0
        text = text.rstrip() if self._pre else text.strip()
        if not text and not keep:
            return
        self._left -= 1
        self._cut = self._cut or self._left < 0
        prefix, self._prefix = self._prefix, ""
        self._lines += wrapped(prefix + text, keep_spaces=self._pre > 0)

    def _blank(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def _absolute(self, href: str) -> str:
        """The URL of a link; empty where it leads to no page."""
        href = _unescaped(href).strip()
        self._hrefs += 1
        if not href or href[0] == "#" or len(href) > MAX_LINK_CHARACTERS or self._hrefs > MAX_HREFS:
            return ""
        try:
            url = urljoin(self._base, href)
        except ValueError:
            return ""
        return url if url.startswith(("http://", "https://")) else ""


def _plain(raw: str) -> str:
    return " ".join(_unescaped(raw).split())


def _unescaped(raw: str) -> str:
    try:
        return html.unescape(raw)
    except ValueError:  # a number with thousands of digits
        return raw
