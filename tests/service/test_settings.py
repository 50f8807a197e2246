"""Settings: values, defaults, and the message for each mistake."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from translator import DIALECTS, Options
from translator.service.config.loading import (
    override,
    read_file,
    read_options,
    read_table,
    translation_options,
)
from translator.service.config.settings import ModelSection, Server, SettingsError

EXAMPLE = Path(__file__).parents[2] / "examples" / "tokenrouter.toml"
UP: dict[str, Any] = {"base_url": "http://up.test/v1"}


def problems(table: dict[str, Any], environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_table(table, environ or {})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_the_example_holds_the_eight_models() -> None:
    settings = read_file(EXAMPLE, {"FIREWORKS_API_KEY": "fw-secret"})
    rows = {
        model.id: (model.context_window, model.max_output_tokens, model.vision)
        for model in settings.models.values()
    }
    assert rows == {
        "kimi-k2p6": (262_144, 65_536, True),
        "kimi-k2p5": (262_144, 65_536, True),
        "deepseek-v4-pro": (1_000_000, 65_536, False),
        "deepseek-v4-flash": (1_000_000, 65_536, False),
        "qwen3p6-plus": (262_144, 65_536, True),
        "glm-5p1": (202_752, 65_536, False),
        "gpt-oss-120b": (131_072, 32_768, False),
        "minimax-m2p7": (196_608, 65_536, False),
    }
    for model in settings.models.values():
        assert model.upstream_model == f"accounts/fireworks/models/{model.id}"
        assert model.upstream is settings.upstreams["fireworks"]
        known = DIALECTS["fireworks"].for_model(model.upstream_model)
        assert model.dialect == msgspec.structs.replace(known, models=())
    fireworks = settings.upstreams["fireworks"]
    assert (fireworks.base_url, fireworks.api_key) == (
        "https://api.fireworks.ai/inference/v1",
        "fw-secret",
    )


def test_the_defaults_that_the_example_quotes_are_the_defaults() -> None:
    text = EXAMPLE.read_text("utf-8").partition("\n[upstreams")[0]
    bare = re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    quoted = tomllib.loads(bare)["server"]
    has_default = msgspec.structs.asdict(Server())  # TOML has no word for None
    assert set(quoted) == {name for name, value in has_default.items() if value is not None}
    assert msgspec.convert(quoted, Server) == Server()


def test_the_facts_that_the_example_quotes_are_facts() -> None:
    text = EXAMPLE.read_text("utf-8")
    bare = re.sub(r"^# (?=[a-z_.]+ = |\[)", "", text, flags=re.MULTILINE)
    settings = read_table(tomllib.loads(bare), {"FIREWORKS_API_KEY": "k"})
    quoted = settings.upstreams["fireworks"].facts
    assert quoted
    for model in settings.models.values():
        assert {name: getattr(model.dialect, name) for name in quoted} == quoted


def test_every_mistake_is_reported_at_once() -> None:
    table = {
        "sever": {},
        "server": {"port": 70_000, "max_body_byte": 1, "reasoning_events": "all"},
        "upstreams": {
            "fireworks": {
                "base_url": "api.fireworks.ai",
                "api_key_env": "FIREWORKS_API_KEY",
                "dialect": "firework",
                "headers": {"x y": "1", "Content-Length": "2", "x-key": "a\nb"},
            },
            "my host": {"dialect": 3},
        },
        "models": {
            "kimi-k2p6": {"upstream": "firework", "vision": "yes"},
            "glm": {"upstream": "firework", "context_window": 0},
            "qwen": {"upstream": "fireworks", "upstream_model": ""},
            "flat": 1,
        },
    }
    found = problems(table)
    known = found[5].partition("known: ")[2]
    assert known.startswith("auto, base, ") and "fireworks" in known
    assert found == (
        "sever: there is no such setting; did you mean server?",
        "server.port: expected int <= 65535",
        "server.max_body_byte: there is no such setting; did you mean max_body_bytes?",
        "server.reasoning_events: invalid enum value 'all'; known: summary, text, both, none",
        'upstreams.fireworks.base_url: "api.fireworks.ai" is not a URL that starts with http:// '
        "or https://; did you mean https://api.fireworks.ai?",
        f'upstreams.fireworks.dialect: there is no dialect "firework"; did you mean'
        f" fireworks? known: {known}",
        'upstreams.fireworks.headers."x y": is not a header name',
        "upstreams.fireworks.headers.Content-Length: is set by the HTTP connection",
        "upstreams.fireworks.headers.x-key: contains characters not allowed in a header",
        "upstreams.fireworks.api_key_env: the environment variable FIREWORKS_API_KEY is not set",
        'upstreams."my host".dialect: expected str, got int',
        'upstreams."my host".base_url: is missing',
        'models."kimi-k2p6".vision: expected bool, got str',
        'models."kimi-k2p6".upstream: there is no upstream "firework"; known: fireworks, my host',
        'models."glm".context_window: expected int >= 1',
        'models."glm".upstream: there is no upstream "firework"; known: fireworks, my host',
        'models."qwen".upstream_model: must not be empty',
        'models."flat": expected a table, as in [models."flat"]',
    )


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("KEY", "  sk-1234\n", None),
        ("KEY", "", "the environment variable KEY is not set"),
        (
            "KEY",
            '"sk-1234"',
            "the environment variable KEY has quotes around the key; leave them out",
        ),
        (
            "KEY",
            "'sk-1234'",
            "the environment variable KEY has quotes around the key; leave them out",
        ),
        (
            "KEY",
            "Bearer sk-1234",
            'the environment variable KEY begins with "Bearer", which is sent anyway; leave it out',
        ),
        (
            "KEY",
            "KEY=sk-1234",
            "the environment variable KEY begins with its own name; leave out all up to the =",
        ),
        (
            "KEY",
            "sk-12 34",
            "the environment variable KEY contains white space, which no key does",
        ),
        (
            "KEY",
            "sk-12\n34",
            "the environment variable KEY contains characters not allowed in a key",
        ),
        ("$KEY", None, "takes the name of an environment variable, as it is: KEY"),
        ("${KEY}", None, "takes the name of an environment variable, as it is: KEY"),
        *(
            (
                key,
                None,
                "takes the name of an environment variable that holds the key, not the key itself",
            )
            for key in ("sk-proj-abcdefghijklmnop", "gsk_abcdefghijklmnopqrst", "my key", "a" * 64)
        ),
        (
            "FIREWORK_API_KEY",
            None,
            "the environment variable FIREWORK_API_KEY is not set; did you mean FIREWORKS_API_KEY?",
        ),
    ],
)
def test_a_key_is_checked(variable: str, value: str | None, problem: str | None) -> None:
    """A key is never quoted, also where it stands for the name of its variable."""
    environ = {"FIREWORKS_API_KEY": "sk-other"}
    if value is not None:
        environ[variable] = value
    table = {"upstreams": {"up": {"base_url": "http://up.test", "api_key_env": variable}}}
    if problem is not None:
        with pytest.raises(SettingsError) as error:
            read_table(table, environ)
        assert error.value.problems == (f"upstreams.up.api_key_env: {problem}",)
    else:
        assert read_table(table, environ).upstreams["up"].api_key == "sk-1234"


def test_a_model_must_name_an_upstream_that_is_there() -> None:
    table = {"upstreams": {"fireworks": UP}, "models": {"kimi-k2p6": {"upstream": "firework"}}}
    assert problems(table) == (
        'models."kimi-k2p6".upstream: there is no upstream "firework"; known: fireworks',
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "is missing"),
        ("ftp://up.test", '"ftp://up.test" is not a URL that starts with http:// or https://'),
        ("http://", '"http://" is not a URL that starts with http:// or https://'),
        ("http://up.test:x/", '"http://up.test:x/" is not a URL'),
        (
            "http://up.test:0/",
            '"http://up.test:0/" is not a URL that starts with http:// or https://',
        ),
        ("http://[::1/v1", '"http://[::1/v1" is not a URL'),
        ("http://up.test/a b", '"http://up.test/a b" contains a character not allowed in a URL'),
        (
            "http://me:secret@up.test/v1",
            "must not hold a user name or a password; use api_key_env or headers",
        ),
        (
            "http://up.test/v1?key=1",
            "must not have a query or a fragment; paths are appended to it",
        ),
        (
            "http://up.test/v1/chat/completions/",
            "must end before /chat/completions, which is appended to it",
        ),
        (
            "http://up.test/v1/responses",
            "must end before /responses; /chat/completions is appended to it",
        ),
        (
            "localhost:8000",
            '"localhost:8000" is not a URL that starts with http:// or https://; did you mean'
            " http://localhost:8000?",
        ),
        (
            "llm:8000/v1",
            '"llm:8000/v1" is not a URL that starts with http:// or https://; did you mean'
            " http://llm:8000/v1?",
        ),
        (
            "127.0.0.1/v1",
            '"127.0.0.1/v1" is not a URL that starts with http:// or https://; did you mean'
            " http://127.0.0.1/v1?",
        ),
        (
            "'https://up.test/v1'",
            "\"'https://up.test/v1'\" is not a URL that starts with http:// or https://; did you"
            " mean https://up.test/v1?",
        ),
    ],
)
def test_a_base_url_is_checked(url: str, text: str) -> None:
    assert problems({"upstreams": {"up": {"base_url": url}}}) == (f"upstreams.up.base_url: {text}",)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "upstreams: no upstream is given"),
        ({"upstreams": {}}, "upstreams: no upstream is given"),
        ({"upstreams": 3}, "upstreams: expected a table, as in [upstreams.NAME]"),
        (
            {"upstreams": {"a": UP, "b": UP}},
            "models: with more than one upstream, each model must say which one it is on",
        ),
        (
            {"upstreams": {"a": UP}, "models": {}},
            "models: no model is given; without this section any model is accepted",
        ),
        ({"server": [], "upstreams": {"a": UP}}, "server: expected a table, as in [server]"),
        (
            {"zzz": 1, "upstreams": {"a": UP}},
            "zzz: there is no such setting; known: server, upstreams, models, clients, store, "
            "accounts, tools",
        ),
    ],
)
def test_the_sections_must_fit_each_other(table: dict[str, Any], problem: str) -> None:
    assert problem in problems(table)


def test_a_dialect_is_known_from_the_host() -> None:
    table = {
        "upstreams": {
            "far": {"base_url": "https://api.fireworks.ai/inference/v1/"},
            "near": {"base_url": "http://127.0.0.1:9000/v1", "dialect": "auto"},
        },
        "models": {
            "a": {"upstream": "far"},
            "b": {"upstream": "near"},
            "c": {"upstream": "near", "dialect": "fireworks", "reasoning_events": "none"},
        },
    }
    settings = read_table(table, {})
    assert settings.upstreams["far"].base_url == "https://api.fireworks.ai/inference/v1"
    assert [model.dialect.name for model in settings.models.values()] == [
        "fireworks",
        "base",
        "fireworks",
    ]
    assert [model.options.reasoning_events for model in settings.models.values()] == [
        "summary",
        "summary",
        "none",
    ]
    assert settings.models["a"].upstream_model == "a"


def test_a_key_comes_from_the_environment_and_is_never_shown() -> None:
    table = {
        "upstreams": {
            "up": UP | {"api_key_env": "UP_KEY", "headers": {"X-Tenant": "tenant-secret"}}
        }
    }
    settings = read_table(table, {"UP_KEY": " key-secret\n"})
    upstream = settings.upstreams["up"]
    assert upstream.api_key == "key-secret"
    assert upstream.has_credential
    assert "secret" not in repr(settings)
    assert problems(table, {"UP_KEY": "a\x00b"}) == (
        "upstreams.up.api_key_env: the environment variable UP_KEY contains characters not "
        "allowed in a key",
    )


def test_a_header_can_be_the_credential() -> None:
    with_key = {"up": UP | {"headers": {"Api-Key": "k"}}}
    assert read_table({"upstreams": with_key}, {}).upstreams["up"].has_credential
    without = {"up": UP | {"headers": {"x-tenant": "k"}}}
    assert not read_table({"upstreams": without}, {}).upstreams["up"].has_credential


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    cases = [
        (None, f"{file} cannot be read: No such file or directory"),
        (b"[server\n", f"{file} is not TOML: Expected ']' at the end of a table declaration"),
        (b"\xff", f"{file} is not UTF-8 text"),
    ]
    for content, expected in cases:
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            read_file(file, {})
        [problem] = caught.value.problems
        assert problem.startswith(expected)


def test_the_options_of_the_command_line_are_the_same_settings() -> None:
    settings = read_options(
        upstream="https://api.fireworks.ai/inference/v1",
        api_key_env="KEY",
        server={"port": 0, "reasoning_events": "both"},
        environ={"KEY": "k"},
    )
    [upstream] = settings.upstreams.values()
    assert (upstream.dialect, upstream.api_key) == ("fireworks", "k")
    assert (settings.server.port, settings.server.reasoning_events) == (0, "both")
    assert settings.models == {}


def test_a_mistake_on_the_command_line_is_named_after_its_option() -> None:
    with pytest.raises(SettingsError) as caught:
        read_options(upstream="up", dialect="x", api_key_env="KEY", environ={})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "--upstream",
        "--dialect",
        "--api-key-env",
    ]


def test_the_command_line_wins_over_the_file() -> None:
    table: dict[str, Any] = {
        "server": {"port": 1, "read_timeout_s": 7},
        "upstreams": {"up": UP},
        "models": {"a": {"upstream": "up"}},
    }
    table["models"]["a"]["reasoning_events"] = "none"
    settings = override(read_table(table, {}), {"port": 2, "reasoning_events": "text"})
    assert (settings.server.port, settings.server.read_timeout_s) == (2, 7)
    assert settings.models["a"].options.reasoning_events == "text"
    assert translation_options(settings.server).reasoning_events == "text"


def test_every_option_of_the_core_can_be_set_for_all_and_for_one_model() -> None:
    """The defaults are the core's; a model overrides them for itself."""
    names = set(Options.__struct_fields__)
    assert names <= set(Server.__struct_fields__)
    assert names <= set(ModelSection.__struct_fields__)
    assert translation_options(Server()) == Options()
    table: dict[str, Any] = {
        "server": {"strict": True, "hosted_tools": "reject", "forward": ["seed", "mirostat"]},
        "upstreams": {"up": UP},
        "models": {
            "a": {"upstream": "up"},
            "b": {"upstream": "up", "strict": False, "hosted_tools": "drop", "forward": []},
        },
    }
    settings = read_table(table, {})
    given = Options(strict=True, hosted_tools="reject", forward=("seed", "mirostat"))
    assert translation_options(settings.server) == given
    assert settings.models["a"].options == given
    assert settings.models["b"].options == Options(forward=())


def test_what_is_translated_cannot_be_forwarded() -> None:
    table: dict[str, Any] = {
        "server": {"forward": ["seed", "messages"]},
        "upstreams": {"up": UP},
        "models": {"m": {"upstream": "up", "forward": ["tools"]}},
    }
    assert problems(table) == (
        "server.forward: messages is translated, so it cannot be sent upstream unchanged",
        'models."m".forward: tools is translated, so it cannot be sent upstream unchanged',
    )


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Some editors of Windows begin a file with one."""
    file = tmp_path / "settings.toml"
    file.write_bytes(b'\xef\xbb\xbf[upstreams.up]\nbase_url = "http://up.test/v1"\n')
    assert list(read_file(file, {}).upstreams) == ["up"]
