"""`--undo` of `translator codex`: only what `--write` wrote goes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from translator.__main__ import main
from translator.commands import written_files

RECORD = ".translator-codex-undo.json"
SETTINGS = """\
[upstreams.u]
base_url = "https://up.test/v1"
api_key_env = "A_VARIABLE_THAT_IS_NOT_SET"

[models."kimi-k2.6"]
upstream = "u"
context_window = 262144

[models."org/gpt"]
upstream = "u"
strict = true
"""
WRITES = [
    [],
    ["--default", "org/gpt"],
    ["--default", "kimi-k2.6", "--key-env", "OTHER"],
    ["--model", "kimi-k2.6", "--no-key"],
    ["--base-url", "http://gateway.test/v1"],
]


class Home:
    """Codex's folder, and what stands in it."""

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch / "codex home"
        self._settings = scratch / "settings.toml"
        self._settings.write_text(SETTINGS)
        self.config = self.folder / "config.toml"

    def write(self, *options: str) -> int:
        given = ["--config", str(self._settings), "--codex-home", str(self.folder), *options]
        return main(["codex", "--write", *given])

    def undo(self) -> int:
        return main(["codex", "--undo", "--codex-home", str(self.folder)])

    def put(self, text: str, name: str = "config.toml") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(text.encode())

    def text(self, name: str = "config.toml") -> str:
        return (self.folder / name).read_bytes().decode()

    def content(self) -> dict[str, bytes]:
        if not self.folder.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- nothing but --write and --undo --------------------------------------------------------------

TOP = ["# Ünïcode “comment”", "model = 'gpt-5.5' # best", 'model_provider="mine"', "a.b = 'é'",
       'approval_policy = "never"', "", 'notes = """\n[not_a_table]\nmodel = 1\n"""',
       "list = [ # of what\n  1,\n]", 'web_search = "live"', 'model_catalog_json = "mine.json"']  # fmt: skip
TABLES = [
    '[model_providers.other]\nname = "o" # mine\nexperimental_bearer_token = "sk-secret-1"',
    '[model_providers.translator] # my own\nname = \'t\'\nbase_url = "http://u:sk-secret-2@h/v1"'
    '\nenv_key = "MY_KEY" # here\nsupports_websockets = false\nhttp_headers = { x = "y" }',
    '# The looks.\n[tui]\ntheme = "dark"',
    '[[hooks]]\nname = "x"\n\n[hooks.inner]\ny = 1',
    '[projects."/é # x"]\ntrust_level = "trusted"',
    "[model_providers]\n[model_providers.third]\nname = \"3\"",
    "# end",
]  # fmt: skip
WHOLE = [
    "",
    "\n",
    "a = 1",
    "# only a comment",
    'model_providers = { other = { name = "o", experimental_bearer_token = "sk-secret-3" } }\n',
    'model_providers = { translator = { name = "o", base_url = "http://mine/v1" }, z = { name = "z" } }\n',
    '[model_providers]\nother = { name = "o" }\ntranslator = { name = "t" } # c\n[z]\n',
    'model_providers.a.name = "a"\n[z]\n',
    'model_providers.translator.name = "a"\nmodel_providers.translator.env_key = "B"\n[z]\n',
]


@st.composite
def configs(draw: st.DrawFn) -> str | None:
    """A config.toml of a user; None for no file."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([None, *WHOLE]))
    lines = draw(st.lists(st.sampled_from(TOP), unique=True, max_size=4))
    tables = draw(st.lists(st.sampled_from(TABLES), unique=True, max_size=3))
    text = "\n".join([*lines, *("\n" * draw(st.booleans()) + table for table in tables)])
    text += draw(st.sampled_from(["\n", "", "\n\n"]))
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        text = "\n".join([*lines, ""])
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


CATALOGS = [
    None,
    '{"models": []}',
    '{"note": "é", "models": [{"slug": "mine"}, {"slug": "org/gpt", "priority": 9}, 7]}',
    '{\n\t"models": [\n\t\t{"slug": "mine"}\n\t]\n}\n',
]
OURS = 'model = "org/gpt"\nmodel_provider = "translator"\nweb_search = "live" # mine\n'
PROFILES = [None, "# somebody else's\n", OURS]

few = hypothesis_settings(
    phases=(Phase.explicit, Phase.generate),
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@few
@given(
    config=configs(),
    catalog=st.sampled_from(CATALOGS),
    profile=st.sampled_from(PROFILES),
    writes=st.lists(st.sampled_from(WRITES), min_size=1, max_size=3),
)
@example(config=None, catalog=None, profile=None, writes=WRITES[:3])
@example(config=WHOLE[4], catalog=CATALOGS[2], profile=OURS, writes=WRITES[1:4])
def test_undoing_leads_back_byte_for_byte(
    config: str | None, catalog: str | None, profile: str | None, writes: list[list[str]]
) -> None:
    """However often was written, with whatever options; the record holds no key of anybody's."""
    with TemporaryDirectory() as scratch:
        home = Home(Path(scratch))
        for name, text in (
            ("config.toml", config),
            ("model_catalog.json", catalog),
            ("gpt.config.toml", profile),
        ):
            if text is not None:
                home.put(text, name)
        before = home.content()
        for options in writes:
            assert home.write(*options) == 0
        record = home.folder / RECORD
        assert record.stat().st_mode & 0o777 == 0o600
        assert b"secret" not in record.read_bytes()
        assert home.undo() == 0
        assert home.content() == before
        assert home.folder.exists() == bool(before)
        assert home.undo() == 0
        assert home.content() == before


# --- with the user's own changes between ----------------------------------------------------------


def solid(text: str) -> list[str]:
    """The lines of a text that are not blank."""
    return [line for line in re.split(r"\r?\n", text) if line.strip()]


def prepended(text: str, number: int) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    return f"# the user's {number} ü{end}user_{number} = {number}{end}{text}"


def appended(text: str, number: int) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else end
    return f'{text}{gap}[user."{number}"] # mine{end}x = "“{number}”" # too{end}'


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(number: int) -> Generator[None]:
    """Let the process end before it writes the nth file, the record counted."""
    replace = Path.replace
    left = number

    def replaced(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        return replace(path, target)

    with patch.object(Path, "replace", replaced):
        yield


@few
@given(
    config=configs(),
    steps=st.lists(
        st.one_of(
            st.sampled_from([*WRITES, "undo", prepended, appended]),
            st.tuples(st.integers(1, 5), st.sampled_from(WRITES)),
        ),
        min_size=1,
        max_size=6,
    ),
)
@example(config="a = 1", steps=[(4, WRITES[1]), (3, WRITES[2]), appended, (5, []), prepended])
@example(config=None, steps=[[], appended, WRITES[1], prepended, WRITES[3]])
@example(config="a = 1", steps=[[], appended, "undo", WRITES[1], prepended, "undo", "undo"])
@example(config=WHOLE[5], steps=[WRITES[2], appended, WRITES[4]])
@example(config=WHOLE[8], steps=[WRITES[2], prepended])
def test_writes_undos_and_edits_in_any_order(config: str | None, steps: list[Any]) -> None:
    """In the end the file is as if only the user had ever changed it, but for blank lines.

    A write may end before its nth file.
    """
    with TemporaryDirectory() as scratch:
        home = Home(Path(scratch))
        expected = config
        if config is not None:
            home.put(config)
        for number, step in enumerate([*steps, "undo"]):
            if step == "undo":
                assert home.undo() == 0
                there = home.text() if home.config.exists() else None
                assert solid(there or "") == solid(expected or "")
                assert (there is None) == (expected is None)
            elif isinstance(step, list):
                assert home.write(*step) == 0
            elif isinstance(step, tuple):
                with suppress(Killed), killed_at(step[0]):
                    home.write(*step[1])
            else:
                expected = step(expected or "", number)
                home.put(step(home.text() if home.config.exists() else "", number))
        assert RECORD not in home.content()
        assert not any(".config." in name for name in home.content())


@few
@given(
    config=configs(),
    write=st.sampled_from(WRITES),
    at=st.lists(st.integers(0, 100), min_size=1, max_size=4),
    new=st.lists(
        st.sampled_from(["# the user's {}", "user_{} = 'é' # mine", "user.{}.x = {{ y = 1 }}"]),
        min_size=4,
        max_size=4,
    ),
)
def test_no_line_of_the_user_is_lost_wherever_it_stands(
    config: str | None, write: list[str], at: list[int], new: list[str]
) -> None:
    """In the middle of what was written, too: a table of ours stays for it, with its name."""
    with TemporaryDirectory() as scratch:
        home = Home(Path(scratch))
        if config is not None:
            home.put(config)
        assert home.write(*write) == 0
        text, lines = home.text(), list[str]()
        for number, (place, line) in enumerate(zip(at, new, strict=False)):
            rows = re.split(r"(?<=\n)", text)
            rows.insert(place % (len(rows)), line.format(number) + "\n")
            try:
                tomllib.loads("".join(rows))
            except tomllib.TOMLDecodeError:
                continue
            text = "".join(rows)
            lines.append(line.format(number))
        if not lines:
            return
        home.put(text)
        with_edits = tomllib.loads(text)
        assert home.undo() == 0
        left = home.text()
        for line in lines:
            assert line in left.splitlines(), left
        assert set(solid(config or "")) <= set(solid(left)), left
        values = tomllib.loads(left)
        before = tomllib.loads(config or "")
        for key in ("model", "model_provider", "model_catalog_json"):
            assert values.get(key) == before.get(key)
        provider = values.get("model_providers", {}).get("translator", {})
        own = before.get("model_providers", {}).get("translator", {})
        added = {key for key in provider if key.startswith("user")}
        assert added == {
            key for key in with_edits["model_providers"]["translator"] if key.startswith("user")
        }
        kept = {key: value for key, value in provider.items() if key not in added}
        assert kept == (own or ({"name": "translator"} if added else {}))


# --- what is said, and what stays ----------------------------------------------------------------


def test_a_value_that_the_user_has_changed_since_is_his(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its table stays for it, with the name without which Codex does not start; a line says so."""
    home.put("# mine\n")
    home.write("--default", "org/gpt")
    text = home.text().replace("http://127.0.0.1:8080/v1", "http://mine.test/v1")
    home.put(text.replace('model = "org/gpt"', 'model = "org/gpt" # good'))
    capsys.readouterr()
    assert home.undo() == 0
    out = capsys.readouterr().out.splitlines()
    assert tomllib.loads(home.text()) == {
        "model_providers": {"translator": {"name": "translator", "base_url": "http://mine.test/v1"}}
    }
    assert "# good" in home.text().splitlines()
    assert (
        f"changed    {home.config} (what you changed since stays; before: config.toml.bak2)" in out
    )
    assert "           model_providers.translator.base_url stays: it is yours by now" in out
    assert (home.folder / "config.toml.bak2").read_text().startswith('model = "org/gpt" # good\n')


def test_it_says_what_it_did_and_where_there_is_nothing_to_do(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.undo() == 0
    nothing = f"nothing to undo: --write has written nothing in {home.folder}\n"
    assert capsys.readouterr().out == nothing
    home.put("# mine\n")
    home.write()
    back = f"take it back:       translator codex --undo --codex-home '{home.folder}'\n"
    assert capsys.readouterr().err.endswith(back)
    assert home.undo() == 0
    assert capsys.readouterr().out.splitlines() == [
        f"restored   {home.config}",
        f"removed    {home.folder / 'kimi-k2-6.config.toml'}",
        f"removed    {home.folder / 'gpt.config.toml'}",
        f"removed    {home.folder / 'model_catalog.json'}",
    ]
    assert home.undo() == 0
    assert capsys.readouterr().out == nothing


def test_what_the_user_deleted_stays_deleted(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.put("# mine\n")
    home.write()
    home.config.unlink()
    (home.folder / "gpt.config.toml").unlink()
    (home.folder / "config.toml.bak").unlink()
    assert home.undo() == 0
    assert f"gone       {home.config} (it is not there any more)" in capsys.readouterr().out
    assert home.content() == {}


def test_a_file_that_the_user_put_back_himself_is_as_it_was(home: Home) -> None:
    """A new --write begins anew from there."""
    home.put("model = 'a' # mine\n")
    home.write("--default", "org/gpt")
    home.put("model = 'b' # mine\n")
    home.write("--default", "org/gpt")
    assert home.undo() == 0
    assert home.text() == "model = 'b' # mine\n"


def test_a_backup_that_is_gone_is_said(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What is never secret is known without it; the rest of ours goes."""
    mine = '[model_providers.translator]\nname = "mine"\nbase_url = "http://mine/v1"\n'
    home.put("model = 'a' # mine\n" + mine)
    home.write("--default", "org/gpt")
    (home.folder / "config.toml.bak").unlink()
    assert home.undo() == 1
    assert home.text() == "model = 'a' # mine\n[model_providers.translator]\nname = \"mine\"\n"
    out = capsys.readouterr().out
    assert "model_providers.translator.base_url is gone: its earlier value was in a backup" in out


def test_a_profile_keeps_what_the_user_added(home: Home) -> None:
    home.write()
    home.put(home.text("gpt.config.toml") + 'model_verbosity = "low"\n', "gpt.config.toml")
    assert home.undo() == 0
    assert home.text("gpt.config.toml") == 'model_verbosity = "low"\n'


def test_a_catalog_keeps_the_models_that_are_the_users(home: Home) -> None:
    """Those that he added, and one of ours that he has changed."""
    home.put('{"models": [{"slug": "mine"}]}', "model_catalog.json")
    home.write()
    catalog = json.loads(home.text("model_catalog.json"))
    assert [model["slug"] for model in catalog["models"]] == ["mine", "kimi-k2.6", "org/gpt"]
    text = home.text("model_catalog.json").replace("262144", "131072")
    text = text.replace('{"slug": "mine"}', '{"slug": "mine"}, {"slug": "more"}')
    home.put(text, "model_catalog.json")
    assert home.undo() == 0
    left = home.text("model_catalog.json")
    assert [model["slug"] for model in json.loads(left)["models"]] == ["mine", "more", "kimi-k2.6"]
    assert left.startswith('{"models": [{"slug": "mine"}, {"slug": "more"}, {"slug": "kimi')


def test_a_catalog_that_the_users_own_profile_names_stays(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Codex does not start with a catalog that is not there."""
    home.write()
    home.put('model_catalog_json = "./model_catalog.json"\n', "mine.config.toml")
    assert home.undo() == 0
    assert set(home.content()) == {"mine.config.toml", "model_catalog.json"}
    assert "model_catalog.json: your own configuration refers to it" in capsys.readouterr().out


def test_a_link_a_mode_and_a_read_only_file_stay_what_they_are(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "dotfiles.toml"
    elsewhere.write_text("# mine\n")
    elsewhere.chmod(0o440)
    home.folder.mkdir()
    home.config.symlink_to(elsewhere)
    (home.folder / "gpt.config.toml").symlink_to(tmp_path / "not there")
    home.write()
    assert "translator" in elsewhere.read_text()
    assert home.undo() == 0
    assert home.config.is_symlink()
    assert (elsewhere.read_text(), elsewhere.stat().st_mode & 0o777) == ("# mine\n", 0o440)
    assert (home.folder / "gpt.config.toml").is_symlink()
    assert not (tmp_path / "not there").exists()


@pytest.mark.parametrize(
    ("added", "left"),
    [
        ('[model_providers.translator.http_headers]\nx = "y"\n', 'name = "translator"\n'),
        ("# below\n", None),
    ],
)
def test_what_stands_below_our_table_stays(home: Home, added: str, left: str | None) -> None:
    """A comment beside its header, too."""
    home.put("a = 1\n")
    home.write()
    text = home.text().replace("[model_providers.translator]", "[model_providers.translator] # c")
    home.put(text + added)
    assert home.undo() == 0
    header = "\n[model_providers.translator] # c\n"
    assert home.text() == "a = 1\n" + (header + left if left else "# c\n") + added


def test_a_long_list_takes_no_long_time(home: Home) -> None:
    """It is not parsed from its beginning at each of its lines."""
    home.put("list = [\n" + '  "x",\n' * 300 + "]\n")
    home.write()
    home.put(f"# mine\n{home.text()}")
    with patch.object(tomllib, "loads", wraps=tomllib.loads) as loads:
        assert home.undo() == 0
    assert loads.call_count < 200
    assert home.text().startswith("# mine\nlist = [\n")


# --- interruptions and mistakes ------------------------------------------------------------------


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize(
    ("second", "write"), [*((False, n) for n in range(1, 7)), *((True, n) for n in range(1, 4))]
)
def test_an_interrupted_write_can_be_undone(
    home: Home, write: int, *, second: bool, edited: bool
) -> None:
    """The first or the second --write ends before its nth file, the record counted."""
    home.put("# mine\nmodel = 'mine' # best")
    before = home.content()
    if second:
        home.write("--default", "org/gpt")
    with pytest.raises(Killed), killed_at(write):
        home.write("--default", "kimi-k2.6", "--base-url", "http://other/v1", "--key-env", "K")
    if edited:
        home.put(f"# new\n{home.text()}")
    assert home.undo() == 0
    if edited:
        assert home.text() == "# new\n# mine\nmodel = 'mine' # best"
        assert {name for name in home.content() if ".bak" not in name} == {"config.toml"}
    else:
        assert {name: text for name, text in home.content().items() if ".bak" not in name} == before


@pytest.mark.parametrize("write", [1, 2])
def test_an_interrupted_undo_can_be_repeated(home: Home, write: int) -> None:
    home.put("# mine\n")
    home.put('{"models": []}', "model_catalog.json")
    before = home.content()
    home.write()
    with pytest.raises(Killed), killed_at(write):
        home.undo()
    assert home.undo() == 0
    assert {name: text for name, text in home.content().items() if ".bak" not in name} == before


def test_a_file_that_is_no_toml_any_more_is_left(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said what to take out, the other files are undone, and once mended it can be, too."""
    home.put("# mine\n")
    home.write("--default", "org/gpt")
    text = home.text()
    home.put(text + "[")
    capsys.readouterr()
    assert home.undo() == 1
    out = capsys.readouterr().out
    assert f"left       {home.config}: " in out
    [said] = [line for line in out.splitlines() if line.startswith("left")]
    named = said.partition("mend it, or take out: ")[2].split(", ")
    assert {"model", "model_provider", "model_providers.translator.base_url"} <= set(named)
    assert home.text() == text + "["
    assert "gpt.config.toml" not in home.content()
    home.put(text)
    assert home.undo() == 0
    assert home.content() == {"config.toml": b"# mine\n"}


@pytest.mark.parametrize(
    "data", [b"{", b'{"version": 2}', b'{"files": {"../x": {"kind": "toml", "keys": [], "texts": []}}}']
)  # fmt: skip
@pytest.mark.parametrize("what", ["write", "undo"])
def test_a_damaged_record_is_a_sentence(
    home: Home, capsys: pytest.CaptureFixture[str], data: bytes, what: str
) -> None:
    """And nothing is written."""
    home.put("# mine\n")
    (home.folder / RECORD).write_bytes(data)
    assert (home.write() if what == "write" else home.undo()) == 2
    err = capsys.readouterr().err
    assert f"{RECORD} is damaged" in err and "delete it" in err
    assert home.content() == {"config.toml": b"# mine\n", RECORD: data}


def test_the_record_has_a_bound(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it nothing is written, and the sentence says what to do."""
    monkeypatch.setattr("translator.setup.undo.MAX_RECORD_BYTES", 1000)
    home.put("# mine\n")
    assert home.write() == 2
    assert "--undo can remember 1000 bytes" in capsys.readouterr().err
    assert home.content() == {"config.toml": b"# mine\n"}


def test_both_at_once_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codex", "--write", "--undo"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_sentence(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.put("# mine\n")
    home.write()
    before = home.content()

    def refused(*args: Any, **more: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(written_files.tempfile, "mkstemp", refused)
    assert home.undo() == 2
    assert f"{home.config} cannot be written: Permission denied" in capsys.readouterr().err
    assert home.content() == before
    assert home.write("--default", "org/gpt") == 2
    assert f"{RECORD} cannot be written" in capsys.readouterr().err
    assert home.content() == before
