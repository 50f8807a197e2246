"""`translator codex`: its output, the files it writes, and the content it keeps."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from translator.__main__ import main

SETTINGS = """\
[server]
host = "0.0.0.0"
port = 9000

[upstreams.fireworks]
base_url = "https://fireworks.test/v1"
api_key_env = "A_VARIABLE_THAT_IS_NOT_SET"
dialect = "fireworks"

[upstreams.deepseek]
base_url = "https://deepseek.test/v1"
api_key_env = "ANOTHER"
dialect = "deepseek"

[upstreams.openai]
base_url = "https://openai.test/v1"
dialect = "openai"

[models."kimi-k2.6"]
upstream = "fireworks"
context_window = 262144

[models."org/chat model"]
upstream = "deepseek"
strict = true

[models."gpt"]
upstream = "openai"
vision = false
"""
CONFIG = """\
# How I like it.
approval_policy = "never" # always

[model_providers.other]
name = "other" # mine
base_url = "https://other.test/v1"

# The looks.
[tui]
theme = "dark"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "codex home"


def write(settings: Path, home: Path, *options: str) -> None:
    argv = ["codex", "--config", str(settings), "--codex-home", str(home), "--write", *options]
    assert main(argv) == 0


def config(home: Path, name: str = "config") -> dict[str, Any]:
    values: dict[str, Any] = tomllib.loads((home / f"{name}.toml").read_text())
    return values


def provider(home: Path) -> dict[str, Any]:
    values: dict[str, Any] = config(home)["model_providers"]["translator"]
    return values


def catalog(home: Path) -> dict[str, dict[str, Any]]:
    models = json.loads((home / "model_catalog.json").read_text())["models"]
    return {model["slug"]: model for model in models}


def names(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()} - {".translator-codex-undo.json"}


# --- what is written ---------------------------------------------------------------------------


def test_an_empty_folder_gets_provider_profiles_catalog_and_default(
    settings: Path, home: Path
) -> None:
    write(settings, home)
    assert names(home) == {
        "config.toml",
        "kimi-k2-6.config.toml",
        "chat-model.config.toml",
        "gpt.config.toml",
        "model_catalog.json",
    }
    assert config(home) == {
        "model": "kimi-k2.6",
        "model_provider": "translator",
        "model_catalog_json": "model_catalog.json",
        "model_providers": {
            "translator": {
                "name": "translator",
                "base_url": "http://127.0.0.1:9000/v1",
                "wire_api": "responses",
                "env_key": "TRANSLATOR_API_KEY",  # openai has no key of the operator's
                "supports_websockets": True,
            }
        },
    }
    assert config(home, "gpt.config") == {
        "model": "gpt",
        "model_provider": "translator",
        "model_catalog_json": "model_catalog.json",
    }


def test_the_catalog_says_what_the_settings_know(settings: Path, home: Path) -> None:
    """Levels of effort and images come from the dialect, the rest from the model's section."""
    write(settings, home)
    models = catalog(home)
    told = ("default_reasoning_level", "context_window", "input_modalities", "support_verbosity")
    assert {slug: [model.get(key) for key in told] for slug, model in models.items()} == {
        "kimi-k2.6": ["medium", 262144, ["text", "image"], False],
        "org/chat model": ["high", None, ["text"], False],  # DeepSeek takes no images
        "gpt": ["medium", None, ["text"], True],
    }
    levels = models["org/chat model"]["supported_reasoning_levels"]
    assert [level["effort"] for level in levels] == ["none", "low", "high", "max"]
    assert [model["priority"] for model in models.values()] == [1, 2, 3]
    for model in models.values():
        assert model["apply_patch_tool_type"] == "freeform"
        assert "*** Begin Patch" in model["base_instructions"]


def test_a_model_that_refuses_hosted_tools_is_not_offered_web_search(
    settings: Path, home: Path
) -> None:
    """Codex declares it in every request, and a strict service would reject every request."""
    write(settings, home)
    assert config(home, "chat-model.config")["web_search"] == "disabled"
    assert "web_search" not in config(home, "kimi-k2-6.config")


def test_models_can_be_chosen(settings: Path, home: Path) -> None:
    """And Codex asks for no key if the chosen models need none from the client."""
    write(settings, home, "--model", "kimi-k2.6")
    assert "env_key" not in provider(home)
    assert list(catalog(home)) == ["kimi-k2.6"]


def test_a_service_that_knows_its_clients_asks_for_their_key(settings: Path, home: Path) -> None:
    """Also for models whose upstream has the operator's key."""
    stored = f"sha256:{'0' * 16}:{'0' * 64}"
    settings.write_text(SETTINGS + f'[clients.me]\nkeys = ["{stored}"]\n', "utf-8")
    write(settings, home, "--model", "kimi-k2.6")
    assert provider(home)["env_key"] == "TRANSLATOR_API_KEY"


def test_one_upstream_without_a_table(home: Path) -> None:
    argv = ["codex", "--upstream", "http://localhost:8000/v1/", "--dialect", "vllm", "--write"]
    argv += ["--codex-home", str(home), "--model", "a/b", "--model", "c", "--model", "c"]
    argv += ["--context-window", "32768", "--base-url", "http://gateway.test/v1/"]
    assert main(argv) == 0
    assert {slug: model["context_window"] for slug, model in catalog(home).items()} == {
        "a/b": 32768,
        "c": 32768,
    }
    assert "env_key" not in provider(home), "a program on this machine asks for no key"
    assert provider(home)["base_url"] == "http://gateway.test/v1"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("::", "http://[::1]:9000/v1"),
        ("192.168.1.7", "http://192.168.1.7:9000/v1"),
        ("fd00::7", "http://[fd00::7]:9000/v1"),
    ],
)
def test_the_address_is_one_that_can_be_called(
    settings: Path, home: Path, host: str, url: str
) -> None:
    settings.write_text(SETTINGS.replace("0.0.0.0", host))
    write(settings, home)
    assert provider(home)["base_url"] == url


def test_a_service_without_websockets_is_not_asked_for_them(settings: Path, home: Path) -> None:
    write(settings, home)
    assert provider(home)["supports_websockets"] is True
    settings.write_text(SETTINGS.replace("port = 9000", "port = 9000\nwebsocket = false"))
    write(settings, home)
    assert "supports_websockets" not in provider(home)


# --- what is kept ------------------------------------------------------------------------------


def test_a_configuration_keeps_its_comments_tables_and_default(settings: Path, home: Path) -> None:
    """Ours is added after the existing content; the backup holds the old text."""
    home.mkdir()
    (home / "config.toml").write_text(CONFIG)
    write(settings, home)
    text = (home / "config.toml").read_text()
    assert text.startswith(CONFIG + "\n[model_providers.translator]\n")
    assert "model" not in tomllib.loads(text)
    assert (home / "config.toml.bak").read_text() == CONFIG


def test_a_second_run_changes_nothing(
    settings: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(CONFIG)
    write(settings, home)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in home.iterdir()}
    capsys.readouterr()
    write(settings, home)
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in home.iterdir()}
    assert after == before
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5
    assert all(line.startswith("unchanged ") for line in said)


def test_it_says_what_it_did(
    settings: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(CONFIG)
    write(settings, home)
    out, err = capsys.readouterr()
    assert f"wrote      {home / 'model_catalog.json'}" in out
    assert f"changed    {home / 'config.toml'} (before: config.toml.bak)" in out
    assert f"translator serve --config {settings}" in err
    assert "export TRANSLATOR_API_KEY=" in err
    assert "codex --profile kimi-k2-6 " in err
    assert "the context window of org/chat model, gpt is not known" in err


def test_each_change_leaves_a_backup_of_its_own(settings: Path, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(CONFIG)
    write(settings, home)
    first = (home / "config.toml").read_text()
    write(settings, home, "--key-env", "OTHER")
    assert (home / "config.toml.bak").read_text() == CONFIG
    assert (home / "config.toml.bak2").read_text() == first
    assert provider(home)["env_key"] == "OTHER"


def test_the_default_is_changed_where_asked(settings: Path, home: Path) -> None:
    """New keys go above the tables; a changed key keeps its comment."""
    home.mkdir()
    (home / "config.toml").write_text('model = "gpt-5.5" # best\n' + CONFIG)
    write(settings, home, "--default", "gpt")
    text = (home / "config.toml").read_text()
    assert text.startswith(
        'model = "gpt" # best\n# How I like it.\napproval_policy = "never" # always\n'
        'model_provider = "translator"\nmodel_catalog_json = "model_catalog.json"\n'
    )
    assert "# The looks.\n[tui]\n" in text


def test_a_default_of_ours_gets_its_catalog(settings: Path, home: Path) -> None:
    """A configuration written by hand is completed."""
    home.mkdir()
    (home / "config.toml").write_text(
        'model = "gpt"\nmodel_provider = "translator"\n\n'
        '[model_providers.translator]\nname = "mine" # ours\nenv_key = "MY_KEY"\n'
        'http_headers = { x = "y" }\n\n# The looks.\n[tui]\n'
    )
    write(settings, home)
    assert config(home)["model"] == "gpt"
    assert config(home)["model_catalog_json"] == "model_catalog.json"
    assert provider(home)["env_key"] == "MY_KEY"
    assert provider(home)["http_headers"] == {"x": "y"}
    assert (
        "supports_websockets = true\n\n# The looks.\n[tui]\n" in (home / "config.toml").read_text()
    )
    write(settings, home, "--no-key")
    assert "env_key" not in provider(home)


def test_a_profile_of_somebody_elses_is_left_alone(settings: Path, home: Path) -> None:
    """Its name is not used, nor is one that `config.toml` defines in the old way."""
    home.mkdir()
    (home / "gpt.config.toml").write_text('model = "gpt-5.5"\n')
    (home / "config.toml").write_text('profile = "kimi-k2-6"\n[profiles.chat-model]\nmodel = "x"\n')
    write(settings, home)
    assert (home / "gpt.config.toml").read_text() == 'model = "gpt-5.5"\n'
    ours = {name for name in names(home) if name.endswith(".config.toml")} - {"gpt.config.toml"}
    assert ours == {
        "translator-gpt.config.toml",
        "translator-kimi-k2-6.config.toml",
        "org-chat-model.config.toml",
    }
    before = names(home)
    write(settings, home)
    assert names(home) == before


def test_a_profile_keeps_what_was_added_to_it(settings: Path, home: Path) -> None:
    write(settings, home)
    profile = home / "gpt.config.toml"
    added = 'web_search = "live" # sometimes\n'
    profile.write_text(profile.read_text() + added)
    (home / "model_catalog.json").unlink()
    write(settings, home)
    assert profile.read_text().endswith(added)


def test_models_with_the_same_last_part_have_profiles_of_their_own(home: Path) -> None:
    argv = ["codex", "--upstream", "http://localhost/v1", "--codex-home", str(home), "--write"]
    argv += ["--model", "a/m", "--model", "b/m", "--model", "ü"]
    assert main(argv) == 0
    profiles = {"m.config": "a/m", "b-m.config": "b/m", "model.config": "ü"}
    assert {name: config(home, name)["model"] for name in profiles} == profiles
    assert main([*argv[:6], "--model", "c/m"]) == 0
    profiles |= {"c-m.config": "c/m"}
    assert {name: config(home, name)["model"] for name in profiles} == profiles


def test_a_catalog_keeps_the_models_of_others(settings: Path, home: Path) -> None:
    home.mkdir()
    path = home / "model_catalog.json"
    old = {"note": "é", "models": [{"slug": "mine"}, {"slug": "gpt", "priority": 9}, 7]}
    path.write_text(json.dumps(old))
    write(settings, home)
    new = json.loads(path.read_text())
    assert new["note"] == "é"
    assert [m["slug"] if isinstance(m, dict) else m for m in new["models"]] == [
        "mine", "gpt", 7, "kimi-k2.6", "org/chat model",
    ]  # fmt: skip
    assert new["models"][0] == {"slug": "mine"}
    assert new["models"][1]["priority"] == 3
    assert json.loads((home / "model_catalog.json.bak").read_text()) == old


def test_a_link_stays_a_link_and_a_mode_a_mode(settings: Path, home: Path, tmp_path: Path) -> None:
    """Configurations are often links to files elsewhere, with restricted permissions."""
    home.mkdir()
    elsewhere = tmp_path / "dotfiles.toml"
    elsewhere.write_text(CONFIG)
    elsewhere.chmod(0o640)
    (home / "config.toml").symlink_to(elsewhere)
    write(settings, home)
    assert (home / "config.toml").is_symlink()
    assert "[model_providers.translator]" in elsewhere.read_text()
    assert elsewhere.stat().st_mode & 0o777 == 0o640
    assert (home / "config.toml.bak").read_text() == CONFIG


@pytest.mark.parametrize(
    "before",
    [
        "",
        "\n",
        "a = 1",
        "# only a comment",
        "[a]\nb = 1",
        "[[a]]\nb = 1\n",
        "a = [\n  1, # one\n  2,\n]\n\n[b]\n",
        'model_providers = { other = { name = "o" } }\n',
        '[model_providers]\nother = { name = "o" }\n[z]\n',
        '[model_providers.a]\nname = "a"\n[z]\n[model_providers.b]\nname = "b"\n# end',
        'model_providers.a.name = "a"\n[z]\n',
        '[model_providers.translator]\r\nname = "x" # y\r\n\r\n# z\r\n[z]\r\n',
    ],
)
def test_whatever_toml_there_is_is_kept(settings: Path, home: Path, before: str) -> None:
    """Every other value, line and line end is kept."""
    home.mkdir()
    (home / "config.toml").write_bytes(before.encode())
    write(settings, home, "--default", "gpt")
    after = (home / "config.toml").read_bytes().decode()
    old, new = tomllib.loads(before), tomllib.loads(after)
    assert new["model"] == "gpt"
    assert new["model_providers"].pop("translator")["name"] == "translator"
    providers = old.pop("model_providers", {})
    assert {key: new["model_providers"][key] for key in providers.keys() - {"translator"}} == {
        key: providers[key] for key in providers.keys() - {"translator"}
    }
    assert {key: new[key] for key in old} == old
    assert [line for line in before.splitlines() if "#" in line and "name" not in line] == [
        line for line in after.splitlines() if "#" in line and "name" not in line
    ]
    assert ("\r" in before) == (after.replace("\r\n", "").count("\n") == 0)


# --- what is printed ---------------------------------------------------------------------------


def test_without_write_everything_is_printed_and_nothing_written(
    settings: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output is the content for an empty folder."""
    assert main(["codex", "--config", str(settings), "--codex-home", str(home)]) == 0
    out, err = capsys.readouterr()
    assert not home.exists()
    write(settings, home)
    for path in (home / name for name in names(home)):
        assert f"# {path}\n{path.read_text()}" in out
    assert "codex --profile gpt " in err


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "codex needs --upstream URL or --config FILE"),
        (["--upstream", "http://x.test/v1"], "name yours with --model NAME"),
        (["--config", "FILE", "--model", "nope"], 'there is no model "nope"; known: kimi-k2.6, '),
        (["--config", "FILE", "--default", "no"], '--default: there is no model "no"; known: '),
        (["--config", "FILE", "--context-window", "1k"], "'1k' is not a number of tokens"),
        (["--config", "FILE", "--no-key", "--key-env", "K"], "not allowed with"),
    ],
)
def test_a_mistake_is_a_sentence(
    settings: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(settings) if option == "FILE" else option for option in options]
    assert main(["codex", *given]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.startswith("translator: ")
    assert err.count("\n") == 1


def test_a_port_that_is_not_known_must_be_said(
    settings: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(SETTINGS.replace("port = 9000", "port = 0"))
    assert main(["codex", "--config", str(settings)]) == 2
    assert "--base-url" in capsys.readouterr().err
    write(settings, home, "--base-url", "http://127.0.0.1:1234/v1")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("config.toml", "a = = 1", "config.toml: is not TOML"),
        ("config.toml", "model_providers = 1", "config.toml: model_providers is not a table"),
        ("config.toml", "[model_providers]\ntranslator = 1", "translator is not a table"),
        ("gpt.config.toml", "[", "gpt.config.toml: is not TOML"),
        ("model_catalog.json", "{", "model_catalog.json is not JSON"),
        ("model_catalog.json", "[]", "model_catalog.json is not a catalog"),
        ("config.toml", b"\xff", "config.toml is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_kept_is_not_touched(
    settings: Path,
    home: Path,
    name: str,
    text: str | bytes,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor is any other: either all files are written or none."""
    home.mkdir()
    content = text.encode() if isinstance(text, str) else text
    (home / name).write_bytes(content)
    argv = ["codex", "--config", str(settings), "--codex-home", str(home), "--write"]
    assert main(argv) == 2
    assert sentence in capsys.readouterr().err
    assert names(home) == {name}
    assert (home / name).read_bytes() == content


def test_a_folder_that_cannot_be_written_is_a_sentence(
    settings: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file")
    argv = ["codex", "--config", str(settings), "--codex-home", str(home), "--write"]
    assert main(argv) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("base_url", "port"),
    [
        ("http://127.0.0.1:9123/v1", "9123"),
        ("http://localhost:9123/v1", "9123"),
        ("http://[::1]:9123/v1", "9123"),
        ("http://gateway.test:9123/v1", None),
        ("https://localhost:9123/v1", None),
        (None, None),
    ],
)
def test_the_service_is_started_where_the_base_url_is(
    base_url: str | None, port: str | None, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On this machine; what is elsewhere, or behind another server, is started elsewhere."""
    options = [] if base_url is None else ["--base-url", base_url]
    assert main(["codex", "--config", str(settings), *options]) == 0
    [line] = [one for one in capsys.readouterr().err.splitlines() if "translator serve" in one]
    given = [] if port is None else ["--port", port]
    assert shlex.split(line.partition("serve ")[2]) == ["--config", str(settings), *given]
