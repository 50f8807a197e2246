"""`--undo` of `translator opencode`: only what `--write` wrote goes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from translator.__main__ import main

from .test_undo import SETTINGS, few, solid

JSONS = [
    None,
    "",
    "{}",
    "{ }\n",
    '{"model": "anthropic/x", "provider": {"mine": {"options": {"apiKey": "sk-secret-4"}}}}',
    '{\n\t"theme": "dark",\n\t"model": "anthropic/é",\n\t"provider": {}\n}\n',
    '{\r\n  "keybinds": {"a": "b"},\r\n  "list": [1,2,\r\n 3]\r\n}',
    '{\n  "provider": {\n    "translator": {\n      "npm": "mine",\n      "options": {"apiKey": '
    '"sk-secret-5", "timeout": 5},\n      "models": {"old": {}, "org/gpt": {"cost": 1}}\n    }\n'
    '  }\n}\n',
]  # fmt: skip
OPENCODE_WRITES = [[], ["--default", "org/gpt"], ["--api", "chat", "--model", "kimi-k2.6"]]


def first_member(text: str, number: int) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    before, brace, after = (text if text.strip() else "{}").partition("{")
    comma = "" if after.strip().startswith("}") else ","
    return f'{before}{brace}{end}  "user_{number}": {{"é": [1]}}{comma}{after}'


def last_member(text: str, number: int) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    before, brace, after = (text if text.strip() else "{}").rpartition("}")
    before = before.rstrip()
    comma = "" if before.endswith("{") else ","
    return f'{before}{comma}{end}  "user_{number}": "x"{end}{brace}{after}'


def comment(text: str, number: int) -> str:
    before, brace, after = (text if text.strip() else "{}").partition("{")
    return f"{before}{brace} // the user's {number}, with {{ and \"\n{after}"


def without_comments(text: str) -> Any:
    return json.loads(re.sub(r"// the user.*", "", text))


class OpenCode:
    """OpenCode's configuration."""

    def __init__(self, scratch: Path) -> None:
        self.file = scratch / "opencode" / "opencode.json"
        self._settings = scratch / "settings.toml"
        self._settings.write_text(SETTINGS)

    def write(self, *options: str) -> int:
        given = ["--config", str(self._settings), "--file", str(self.file), *options]
        return main(["opencode", "--write", *given])

    def undo(self) -> int:
        return main(["opencode", "--undo", "--file", str(self.file)])

    def put(self, text: str) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_bytes(text.encode())

    def text(self) -> str:
        return self.file.read_bytes().decode()


@few
@given(before=st.sampled_from(JSONS), writes=st.lists(st.sampled_from(OPENCODE_WRITES), min_size=1))
def test_opencode_s_file_is_again_what_it_was(before: str | None, writes: list[list[str]]) -> None:
    with TemporaryDirectory() as scratch:
        code = OpenCode(Path(scratch))
        if before is not None:
            code.put(before)
        for options in writes[:3]:
            assert code.write(*options) == 0
        record = code.file.parent / ".translator-opencode-undo.json"
        assert record.stat().st_mode & 0o777 == 0o600
        assert b"secret" not in record.read_bytes()
        assert code.undo() == 0
        if before is None:
            assert not code.file.parent.exists()
        else:
            assert code.text() == before
            assert list(code.file.parent.iterdir()) == [code.file]
        assert code.undo() == 0


@few
@given(
    before=st.sampled_from(JSONS),
    steps=st.lists(
        st.sampled_from([*OPENCODE_WRITES, "undo", first_member, last_member]),
        min_size=1,
        max_size=6,
    ),
    comments=st.booleans(),
)
@example(
    before=JSONS[7], steps=[OPENCODE_WRITES[1], last_member, OPENCODE_WRITES[2]], comments=True
)
@example(before=None, steps=[[], last_member, OPENCODE_WRITES[2], first_member], comments=True)
def test_opencode_s_file_keeps_what_the_user_adds(
    before: str | None, steps: list[Any], *, comments: bool
) -> None:
    """In his own form, with comments, which OpenCode reads; a file in lines line by line."""
    with TemporaryDirectory() as scratch:
        code = OpenCode(Path(scratch))
        expected = before
        if before is not None:
            code.put(before)
        for number, step in enumerate([*steps, *([comment] if comments else []), "undo"]):
            if step == "undo":
                assert code.undo() == 0
                assert code.file.exists() == (expected is not None)
                if expected and expected.strip():
                    assert without_comments(code.text()) == without_comments(expected)
                    assert set(solid(code.text())) >= set(solid(expected)) - {"{", "}", "{}"} or (
                        re.sub(r"\s", "", code.text()) == re.sub(r"\s", "", expected)
                    )
            elif isinstance(step, list):
                assert code.write(*step) == 0
            else:
                expected = step(expected or "", number)
                code.put(step(code.text() if code.file.exists() else "", number))


def test_opencode_keeps_what_was_added_to_a_model_of_ours(tmp_path: Path) -> None:
    """And undoes only the file that is named."""
    code, other = OpenCode(tmp_path), OpenCode(tmp_path)
    other.file = code.file.with_name("other.json")
    other.put("{}")
    assert code.write() == other.write() == 0
    text = code.text()
    code.put(text.replace('"name": "org/gpt",', '"name": "org/gpt", "cost": {"input": 1}, // mine'))
    assert code.undo() == 0
    values = {"provider": {"translator": {"models": {"org/gpt": {"cost": {"input": 1}}}}}}
    assert json.loads(code.text().replace("// mine", "")) == values
    assert "// mine" in code.text()
    assert "translator" in other.text()
    assert other.undo() == 0
    assert other.text() == "{}"


def test_of_a_member_that_is_there_twice_only_the_one_that_counts_goes(tmp_path: Path) -> None:
    code = OpenCode(tmp_path)
    code.put('{"model": "a", "model": "b"}')
    assert code.write("--default", "org/gpt") == 0
    code.put(code.text().replace("{", '{"mine": 1, ', 1))
    assert code.undo() == 0
    assert code.text() == '{"mine": 1, "model": "a", "model": "b"}'
