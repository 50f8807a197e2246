"""README.md and docs/: short, in order, every link leads somewhere, every command is understood."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from translator.__main__ import _parser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
IN_ORDER = (
    "start",
    "clients",
    "dialects",
    "library",
    "operations",
    "state",
    "tools",
    "accounts",
    "performance",
    "architecture",
)
FOLDERS = ("docs", "tests/clients", "tests/recordings", "fixtures", "bench")
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    *(page for at in FOLDERS for page in (ROOT / at).glob("*.md")),
]

MAX_README_LINES = 170
FIRST_SCREEN_LINES = 35

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_WITH_VARIABLE = re.compile(r"^(?:export )?([A-Z][A-Z_]+)=\S+", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> list[str]:
    """The blocks of code in these languages."""
    return [code for word, code in _FENCE.findall(path.read_text("utf-8")) if word in languages]


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command line, without comments, redirections and what follows a pipe."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        for end in ("<", ">", "|", "&&"):
            if end in words:
                del words[words.index(end) :]
        if words:
            yield words


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    text = _FENCE.sub("", path.read_text("utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


# --- their shape --------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= MAX_README_LINES


def test_the_first_screen_leads_to_an_answer_in_three_commands() -> None:
    """Install, serve, ask; before them only what it is, and the demo."""
    top = "\n".join(README.read_text("utf-8").splitlines()[:FIRST_SCREEN_LINES])
    demo, *lines = [line for _, code in _FENCE.findall(top) for line in commands(code)]
    assert demo == ["make", "demo"]
    assert [words[:2] for words in lines] == [
        ["uv", "tool"],
        ["translator", "serve"],
        ["curl", "-N"],
    ]


def test_the_readme_keeps_its_order() -> None:
    headings = re.findall(r"^## (.*)$", _FENCE.sub("", README.read_text("utf-8")), re.MULTILINE)
    assert headings == [
        "Sixty seconds to a running service",
        "Codex CLI",
        "As a library",
        "How it works",
        "What is carried over, and what is lost",
        "Performance",
        "More",
    ]


def test_the_pages_are_read_in_order() -> None:
    """The README lists them so, and each ends with a link to the next one."""
    more = README.read_text("utf-8").partition("## More\n")[2]
    assert tuple(re.findall(r"docs/(\w+)\.md\)", more.partition("\n- ")[0])) == IN_ORDER
    for name, following in itertools.pairwise(IN_ORDER):
        last = (DOCS / f"{name}.md").read_text("utf-8").rstrip().splitlines()[-1]
        assert last == f"Next: [{following}]({following}.md)."


def test_every_page_can_be_reached() -> None:
    linked: set[Path] = set()
    for page in PAGES:
        for target in _LINK.findall(page.read_text("utf-8")):
            linked.add((page.parent / target.partition("#")[0]).resolve())
    assert set(DOCS.iterdir()) <= linked


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Files, and the headings that an anchor names."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", file):
            continue
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


# --- their commands -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=named)
def test_every_command_of_ours_is_understood(page: Path) -> None:
    """Each line that calls the program, with options and values that it takes."""
    for code in blocks(page, "sh", "powershell"):
        for words in commands(code.replace("`\n", " ")):
            program = words.pop(0) if words[0] != "&" else words.pop(1)
            if program.rpartition("/")[2].rpartition("\\")[2] == "translator":
                words = [word for word in words if word != "&"]
                _parser(words[:1]).parse_args(words)


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=named)
def test_a_variable_is_set_in_powershell_too(page: Path) -> None:
    """In the block that follows, or beside the line."""
    fences = _FENCE.findall(page.read_text("utf-8"))
    says_how = "is `$env:NAME =" in page.read_text("utf-8")
    for (language, code), (beside, other) in itertools.pairwise([*fences, ("", "")]):
        if language != "sh" or says_how:
            continue
        for name in _WITH_VARIABLE.findall(code):
            shown = code + (other if beside == "powershell" else "")
            assert f"$env:{name} = " in shown, f"{name} is set for sh alone"
