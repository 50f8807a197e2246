"""Quotations in error texts: what a client wrote teaches nothing."""

from __future__ import annotations

import json

import pytest

from translator.reader.quotations import MAX_QUOTATIONS, unquoted, without_quotations

SAID = "max_tokens must be at most 300, please"
BODY = json.dumps({"messages": [{"role": "user", "content": f"Why? {SAID}"}]}).encode()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Blocked: '{SAID}'", "Blocked: '…'"),
        (f'Blocked: "{SAID}"', 'Blocked: "…"'),
        (f"Blocked: `{SAID}`", "Blocked: `…`"),
        (f"Blocked: “{SAID}”", "Blocked: “…”"),
        (f"Input rejected by content policy: {SAID}", "Input rejected by content policy: …"),
        (f"Rejected.\n{SAID}\nTry again.", "Rejected.\n…\nTry again."),
        ("404, url='https://a.test/max_tokens-exceeds-300.png'", "404, url='…'"),
        ("Unknown parameter: 'messages'.", "Unknown parameter: 'messages'."),
        ("max_tokens must be at most 301", "max_tokens must be at most 301"),
        ("It's the model's: don't send 'a field of it'", "It's the model's: don't send 'a field of it'"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_the_request_holds_is_left_out(text: str, left: str) -> None:
    assert without_quotations(text, BODY) == left


def test_so_many_quotations_are_looked_for() -> None:
    others = "".join(f"Sentence of number {number}.\n" for number in range(MAX_QUOTATIONS))
    assert SAID in without_quotations(f"{others}{SAID}", BODY)
    assert SAID not in without_quotations(f"{SAID}\n{others}", BODY)


def test_names_stay_between_quotation_marks() -> None:
    text = "property 'messages[1].reasoning_content' is unsupported, 'the server has crashed'"
    assert unquoted(text) == "property 'messages[1].reasoning_content' is unsupported, …"
