"""What an operator can set, and every mistake in it at once.

    settings = [ server ], upstreams, [ models ] ;

A file is TOML. Each section is checked key by key, so that one start shows all mistakes, each with
its path: `models."kimi-k2p6".upstream: there is no upstream "firework"; known: fireworks`. The
command line's single `--upstream URL` is the same table with one entry, checked by the same rules.

What comes out is resolved: a dialect is a known name (never "auto"), an API key is the key itself
and not the name of its variable, a model points to its upstream. Limits carry their unit in the
name.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from translator.dialects import DIALECTS, known_host

ReasoningEvents = Literal["summary", "text", "both", "none"]
Positive = Annotated[int, Meta(gt=0)]
Seconds = Annotated[float, Meta(gt=0)]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})

CREDENTIAL_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
"""Headers by which upstreams are known to take a key, in lower case."""


class SettingsError(Exception):
    """The settings cannot be used; `problems` holds every reason, one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the service listens, and the bound of everything that could grow or last."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """0 lets the system choose one."""

    reasoning_events: ReasoningEvents = "summary"
    max_body_bytes: Positive = 64 * 1024 * 1024
    """Largest request body: images travel inside it."""

    max_answer_bytes: Positive = 64 * 1024 * 1024
    """Largest upstream answer that is held whole (`stream` false)."""

    max_concurrent_requests: Positive = 1000
    """Requests being answered at once; one more gets a 503 that clients retry."""

    connect_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 300.0
    """Longest silence of an upstream, before its answer and between two pieces of it."""

    client_timeout_s: Seconds = 300.0
    """Longest wait for a client that neither sends the rest of its request nor takes its answer."""

    headers_grace_s: Seconds = 5.0
    """How long our status line waits for the upstream to begin its answer: an error in its place
    is then still an HTTP error."""

    shutdown_timeout_s: Positive = 30
    """How long open answers may go on after SIGTERM."""


class UpstreamSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[upstreams.NAME]` as it is written. Without a `base_url` it is a mistake."""

    base_url: str = ""
    api_key_env: str | None = None
    dialect: str = "auto"
    headers: dict[str, str] = {}


class ModelSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[models."ID"]` as it is written. Without an `upstream` it is a mistake."""

    upstream: str = ""
    upstream_model: str | None = None
    context_window: Positive | None = None
    max_output_tokens: Positive | None = None
    vision: bool = True
    dialect: str = "auto"
    """"auto" is here: the same as its upstream's."""

    reasoning_events: ReasoningEvents | None = None


class Upstream(Struct, frozen=True, kw_only=True):
    """Whom we call. Its key and headers are secrets: they are not part of its `repr`."""

    name: str
    base_url: str  # without a slash at its end
    dialect: str
    api_key: str | None = None
    headers: dict[str, str] = {}

    @property
    def has_credential(self) -> bool:
        """Whether the operator gave a key, so that the client's own must not be passed on."""
        return self.api_key is not None or any(
            name.lower() in CREDENTIAL_HEADERS for name in self.headers
        )

    def __repr__(self) -> str:
        return f"Upstream({self.name!r}, {self.base_url!r}, dialect={self.dialect!r})"


class Model(Struct, frozen=True, kw_only=True):
    """One row of the model table: what clients ask for, and what they get."""

    id: str
    upstream: Upstream
    upstream_model: str
    dialect: str
    reasoning_events: ReasoningEvents
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None  # tokens
    vision: bool = True


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that is fixed for the life of the process.

    Without `models` any model goes to the only upstream.
    """

    server: Server
    upstreams: dict[str, Upstream]
    models: dict[str, Model] = {}


def read_file(path: str | Path, environ: Mapping[str, str]) -> Settings:
    """The settings in a TOML file; raises SettingsError."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path} is not UTF-8 text"]) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path} is not TOML: {error}"]) from None
    return read_table(table, environ)


def read_options(
    *,
    upstream: str,
    dialect: str = "auto",
    api_key_env: str | None = None,
    server: Mapping[str, object] | None = None,
    environ: Mapping[str, str],
) -> Settings:
    """The settings of a command line that names one upstream; raises SettingsError."""
    section: dict[str, object] = {"base_url": upstream, "dialect": dialect}
    if api_key_env is not None:
        section["api_key_env"] = api_key_env
    table = {"server": dict(server or {}), "upstreams": {"upstream": section}}
    try:
        return read_table(table, environ)
    except SettingsError as error:
        raise SettingsError(map(_as_option, error.problems)) from None


def override(settings: Settings, server: Mapping[str, Any]) -> Settings:
    """The same settings with some of `[server]` replaced, as the command line asks."""
    models = settings.models
    if "reasoning_events" in server:
        events = server["reasoning_events"]
        models = {
            name: msgspec.structs.replace(model, reasoning_events=events)
            for name, model in models.items()
        }
    return msgspec.structs.replace(
        settings, server=msgspec.structs.replace(settings.server, **server), models=models
    )


def read_table(table: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings in a decoded TOML document; raises SettingsError with every mistake."""
    sections = ("server", "upstreams", "models")
    problems = [f"{key}: {_unknown(key, sections)}" for key in table if key not in sections]
    server = _section(Server, table.get("server", {}), "server", problems)
    upstreams: dict[str, Upstream | None] = {}
    for name, value in _named(table, "upstreams", problems).items():
        upstreams[name] = _upstream(name, value, environ, problems)
    models = [
        _model(model_id, value, upstreams, server, problems)
        for model_id, value in _named(table, "models", problems).items()
    ]
    if not upstreams:
        problems.append("upstreams: no upstream is given")
    elif not models and "models" not in table and len(upstreams) > 1:
        problems.append(
            "models: with more than one upstream, each model must say which one it is on"
        )
    elif "models" in table and table["models"] == {}:
        problems.append("models: no model is given; without this section any model is accepted")
    if problems:
        raise SettingsError(problems)
    return Settings(
        server=server,
        upstreams={name: upstream for name, upstream in upstreams.items() if upstream},
        models={model.id: model for model in models if model},
    )


def _upstream(
    name: str, value: object, environ: Mapping[str, str], problems: list[str]
) -> Upstream | None:
    path = f"upstreams.{_key(name)}"
    before = len(problems)
    section = _section(UpstreamSection, value, path, problems, required="base_url")
    if section.base_url:
        problems += [f"{path}.base_url: {text}" for text in _url_problems(section.base_url)]
    problems += _dialect_problems(section.dialect, f"{path}.dialect")
    problems += _header_problems(section.headers, f"{path}.headers")
    api_key = None
    if section.api_key_env is not None:
        api_key = environ.get(section.api_key_env, "").strip()
        if not api_key:
            problems.append(
                f"{path}.api_key_env: the environment variable {section.api_key_env} is not set"
            )
        elif not _HEADER_VALUE.fullmatch(api_key):
            problems.append(
                f"{path}.api_key_env: the environment variable {section.api_key_env} "
                "holds characters that cannot be in a key"
            )
    if len(problems) > before:
        return None
    dialect = section.dialect
    if dialect == "auto":
        dialect = known_host(urlsplit(section.base_url).hostname or "")
    return Upstream(
        name=name,
        base_url=section.base_url.rstrip("/"),
        dialect=dialect,
        api_key=api_key,
        headers=section.headers,
    )


def _model(
    model_id: str,
    value: object,
    upstreams: Mapping[str, Upstream | None],
    server: Server,
    problems: list[str],
) -> Model | None:
    path = f"models.{json.dumps(model_id, ensure_ascii=False)}"
    before = len(problems)
    section = _section(ModelSection, value, path, problems, required="upstream")
    if section.upstream and section.upstream not in upstreams:
        known = ", ".join(upstreams) or "none"
        problems.append(
            f'{path}.upstream: there is no upstream "{section.upstream}"; known: {known}'
        )
    problems += _dialect_problems(section.dialect, f"{path}.dialect")
    if section.upstream_model == "":
        problems.append(f"{path}.upstream_model: must not be empty")
    upstream = upstreams.get(section.upstream)
    if len(problems) > before or upstream is None:  # what is wrong with it is said there
        return None
    return Model(
        id=model_id,
        upstream=upstream,
        upstream_model=section.upstream_model or model_id,
        dialect=upstream.dialect if section.dialect == "auto" else section.dialect,
        reasoning_events=section.reasoning_events or server.reasoning_events,
        context_window=section.context_window,
        max_output_tokens=section.max_output_tokens,
        vision=section.vision,
    )


def _named(table: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    """A section that is itself a table of sections."""
    value = table.get(key, {})
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    problems.append(f"{key}: expected a table, as in [{key}.NAME]")
    return {}


T = TypeVar("T", bound=Struct)


def _section(
    kind: type[T], value: object, path: str, problems: list[str], *, required: str = ""
) -> T:
    """One section as its struct, with the default in place of each value that is wrong.

    msgspec stops at the first mistake, so each key is converted by itself.
    """
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table, as in [{path}]")
        return kind()
    table = cast("dict[str, object]", value)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = {}
    for key, item in table.items():
        if key not in fields:
            problems.append(f"{path}.{_key(key)}: {_unknown(key, fields)}")
            continue
        try:
            good[key] = msgspec.convert(item, fields[key].type)
        except msgspec.ValidationError as error:
            problems.append(f"{path}.{key}: {_sentence(error)}")
    if required and table.get(required, "") == "":
        problems.append(f"{path}.{required}: is missing")
    return kind(**good)


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        port_is_a_number = parts.port is None or parts.port > 0
    except ValueError:
        return [f"{json.dumps(url)} is not a URL"]
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_a_number:
        return [f"{json.dumps(url)} is not a URL that starts with http:// or https://"]
    if not url.isascii() or not url.isprintable() or " " in url:
        return [f"{json.dumps(url)} holds a character that a URL cannot hold"]
    problems: list[str] = []
    if parts.username is not None or parts.password is not None:
        problems.append("must not hold a user name or a password; use api_key_env or headers")
    if parts.query or parts.fragment:
        problems.append("must not have a query or a fragment; paths are appended to it")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        problems.append("must end before /chat/completions, which is appended to it")
    return problems


def _dialect_problems(name: str, path: str) -> list[str]:
    if name == "auto" or name in DIALECTS:
        return []
    return [f'{path}: there is no dialect "{name}"; known: auto, {", ".join(DIALECTS)}']


def _header_problems(headers: Mapping[str, str], path: str) -> list[str]:
    """What is wrong with extra headers. A value may be a secret and is never repeated."""
    problems: list[str] = []
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            problems.append(f"{path}.{_key(name)}: is not a header name")
        elif name.lower() in _FRAMING_HEADERS:
            problems.append(f"{path}.{_key(name)}: is decided by the connection")
        elif not _HEADER_VALUE.fullmatch(value):
            problems.append(f"{path}.{_key(name)}: holds characters that a header cannot hold")
    return problems


def _unknown(key: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"there is no such setting; did you mean {near[0]}?"
    return f"there is no such setting; known: {', '.join(known)}"


def _sentence(error: msgspec.ValidationError) -> str:
    """The sentence of msgspec without its own path, in the voice of the others."""
    text, _, inner = str(error).partition(" - at ")
    text = text[:1].lower() + text[1:].replace("`", "")
    if text.startswith("invalid enum value"):
        return f"{text}; known: {', '.join(get_args(ReasoningEvents))}"
    key = inner.strip("`").removeprefix("$")
    return f"{text} (at {key})" if key and key != "[...]" else text


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _as_option(problem: str) -> str:
    """A mistake under the name of the command line option that it came from."""
    path, _, text = problem.partition(": ")
    option = path.rpartition(".")[2].replace("_", "-")
    return f"--{'upstream' if option == 'base-url' else option}: {text}"
