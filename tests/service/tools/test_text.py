"""Pages as text: what is kept of HTML, and what is made harmless."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translator.service.tools.html_text import (
    LINE_CHARACTERS,
    MAX_LINKS,
    MAX_TAGS,
    Document,
    read_html,
    read_plain,
    wrapped,
)
from translator.service.tools.untrusted import harmless, one_line

URL = "https://a.test/dir/page"


def read(text: str, limit: int = 50_000) -> Document:
    return read_html(text, URL, limit)


def lines(text: str) -> list[str]:
    return [line for line in read(text).lines if line]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("plain", ["plain"]),
        ("<h2>Head</h2>text<p>more", ["## Head", "text", "more"]),
        ("<ul><li>one<li>two</ul>", ["- one", "- two"]),
        ("<tr><th>a</th><th>b</th></tr><tr><td>1<td>2</tr>", ["a | b", "1 | 2"]),
        (
            "<pre>def f():\n    return 1 &lt; 2\n</pre>after",
            ["def f():", "    return 1 < 2", "after"],
        ),
        ("a <b>bold</b>  and\n <i>more</i>", ["a bold and more"]),
        ("<script>var a = '<p>no</p>'</script>yes<style>p{}</style>", ["yes"]),
        ("<SCRIPT>no</Script >yes", ["yes"]),
        ("<nav>menu <nav>inner</nav> still</nav>yes<footer>no</footer>", ["yes"]),
        ("<!-- no <p> --><!doctype html><?xml no?>yes", ["yes"]),
        ("1 < 2 &amp; 3 > 2", ["1 < 2 & 3 > 2"]),
        ("&#x41;&#66;&nbsp;&copy;", ["AB\xa0©"]),
        ("a<br>b<br/>c", ["a", "b", "c"]),
        ("<p title='a > b' data=\"<i>\">text</p >", ["text"]),
        ("<img alt='a cat'>", ["[image: a cat]"]),
        ("<title>T</title><svg><title>no</title></svg>x", ["x"]),
        ("<template>no</template><noscript>no</noscript>x", ["x"]),
        ("cut off <a href='/x", ["cut off"]),
        ("cut off <script>no", ["cut off"]),
        ("<form>all of it in a form</form>", ["all of it in a form"]),
        ("<nav>never closed", ["never closed"]),
    ],
)
def test_what_is_kept_of_html(html: str, expected: list[str]) -> None:
    assert lines(html) == expected


def test_links_are_numbered() -> None:
    found = read(
        "<a href='x?a=1&amp;b=2#f'>one</a> <a href=//b.test>two</a> <a href=/>th<b>ree</b></a>"
        "<a href='#top'>top</a><a href='javascript:x'>js</a><a href='mailto:a@b'>mail</a><a href='http://['>bad</a>"
        "<a href=/e></a><a href=/f>open <p>over blocks"
    )
    assert " ".join(found.lines).startswith("[0│one] [1│two] [2│three]topjsmailbad[3│open]")
    assert [link.url for link in found.links][:4] == [
        "https://a.test/dir/x?a=1&b=2#f",
        "https://b.test",
        "https://a.test/",
        "https://a.test/f",
    ]


def test_a_base_is_heeded() -> None:
    found = read("<base href='https://b.test/x/'><a href=y>z</a>")
    assert found.links[0].url == "https://b.test/x/y"


def test_a_title_is_read_once() -> None:
    assert read("<title> A &amp;\n B </title><title>C</title>x").title == "A & B"


def test_the_text_is_bounded() -> None:
    found = read("word " * 1000, 100)
    assert found.cut and sum(map(len, found.lines)) <= 100
    assert not read("word").cut
    many = read("<p>a" * 1000, 500)
    assert many.cut and sum(len(line) + 1 for line in many.lines if line) <= 500
    assert read("<b>a</b>" * MAX_TAGS, 10**7).cut
    assert len(read("<a href=/x>y</a>" * (MAX_LINKS + 10)).links) == MAX_LINKS


HTML = st.text(
    st.sampled_from(list("<>/=\"'!-ap b&;#x1[]\n\u202e")) | st.characters(), max_size=200
)
TAGS = st.lists(
    st.sampled_from(
        ["<a href=x>", "</a>", "<p>", "<pre>", "</pre>", "<nav>", "</nav>", "<td>", "<script>",
         "</script>", "<!--", "-->", "<title>", "</title>", "text", " ", "\n", "&lt;", "<li>", "<h1>"]
    ),
    max_size=40,
)  # fmt: skip


@given(HTML | TAGS.map("".join), st.integers(1, 300))
def test_any_text_can_be_read(text: str, limit: int) -> None:
    """Within its bounds, and each numbered link is one that is listed."""
    found = read(text, limit)
    assert all(len(line) <= LINE_CHARACTERS for line in found.lines)
    assert (
        sum(
            len(re.sub(r"\[\d+│|\]|\[image: | \|(?: |$)|^#+ |^- ", "", line))
            for line in found.lines
        )
        <= limit + 1
    )
    for link in found.links:
        assert link.url.startswith(("http://", "https://"))
    plain = read_plain(text, limit)
    assert sum(map(len, plain.lines)) <= limit


@given(st.text(max_size=500))
def test_wrapping_keeps_every_word(text: str) -> None:
    line = " ".join(text.split())
    parts = wrapped(line)
    assert all(len(part) <= LINE_CHARACTERS for part in parts)
    assert "".join(parts).replace(" ", "") == line.replace(" ", "")
    assert "".join(wrapped(line, keep_spaces=True)) == line


MARKS = (
    "<|im_start|>", "<|endoftext|>", "<｜User｜>", "<think>", "</think>", "<THINK >", "[INST]", "[/INST]",
    "<tool_call>", "</tool_response>", "<start_of_turn>user", "<s>", "</s>", "<<SYS>>", "[TOOL_CALLS]",
    "<function_calls>", "<minimax:tool_call>", "</minimax:tool_call>", "<other:invoke name=", "<arg_key>",
    "</arg_value>", "<function=x>", "<parameter=x>", "<invoke name=", "<unused1>", "<unused_12>",
    "<end_of_image>", "[ARGS]", "[CALL_ID]",
)  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("hidden", ["", "\u200b", "\x00", "\u202e", "\ud800"])
def test_chat_marks_are_broken(mark: str, hidden: str) -> None:
    """Also one that is whole only after what cannot be seen is taken out."""
    text = f"before {mark[:2]}{hidden}{mark[2:]} after"
    made = harmless(text)
    assert mark not in made
    assert made.replace("\u200d", "") == f"before {mark} after"


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=4), max_size=20).map("".join))
def test_no_mark_is_left_in_any_text(text: str) -> None:
    made = harmless(text)
    assert not any(mark in made for mark in MARKS)
    assert harmless(made) == made
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", made)


def test_plain_words_stay_as_they_are() -> None:
    text = "a < b, x[i] and <section> 👩\u200d👩\u200d👧 <thinker> [instance] [args] <function> <a:b>\tok\n"
    assert harmless(text) == text


def test_one_line_is_cut() -> None:
    assert one_line("a\n b\t c", 10) == "a b c"
    assert one_line("a" * 20, 10) == "a" * 9 + "…"
