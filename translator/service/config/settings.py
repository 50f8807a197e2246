"""What an operator can set, and every mistake in it at once.

    settings = [ server ], upstreams, [ models ], [ clients ] ;

A file is TOML. Each section is checked key by key, so that one start shows all mistakes, each with
its path: `models."kimi-k2p6".upstream: there is no upstream "firework"; known: fireworks`. The
command line's single `--upstream URL` is the same table with one entry, checked by the same rules.

What comes out is resolved: a model's dialect is the facts themselves (and an upstream's a known
name, never "auto"), an API key is the key itself and not the name of its variable, a model points
to its upstream. Limits carry their unit in the name.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from translator import Dialect, Options
from translator.common.tools import HostedTools
from translator.dialects import known_host
from translator.service.base.keys import StoredKey, read_stored
from translator.wire.events import ReasoningEvents

from .checks import (
    dialect_problems,
    forward_problems,
    header_problems,
    host_problems,
    is_header_value,
    origin_problems,
    url_problems,
)
from .facts import read_facts, resolved
from .sections import named_sections, read_section, shown_key, unknown

LogFormat = Literal["text", "json"]
Positive = Annotated[int, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
NotNegativeSeconds = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]

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
    """The address to listen on; `0.0.0.0` is every one of this machine."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """The TCP port; 0 lets the system choose one."""

    reasoning_events: ReasoningEvents = "summary"
    """Which events show the model's reasoning: `summary` are those that clients of OpenAI know."""

    hosted_tools: HostedTools = "drop"
    """A tool that only OpenAI's servers can run: left out with a notice, or refused."""

    strict: bool = False
    """A request of which something would be lost on the way is refused."""

    forward: tuple[str, ...] = Options().forward
    """Fields beyond the Responses API that go upstream as the client sent them."""

    retry_refused: bool = True
    """A request of which the upstream refuses an optional field is sent once more without it."""

    retries: NotNegative = 2
    """How often a request is sent again that an upstream did not take: it could not be connected
    to, had closed the idle connection, or asked for a later try."""

    retry_budget_percent: Percent = 20.0
    """How many of the requests to an upstream may be such repetitions: more would make it worse."""

    max_retry_after_s: NotNegativeSeconds = 2.0
    """Longest `Retry-After` of an upstream to wait for here; a longer one is told the client.
    All tries should fit in `headers_grace_s`, so that what remains is still an HTTP error."""

    breaker_failures: Positive = 5
    """After so many failures in a row, one of an upstream's several addresses is left out. A
    client that gives up after more than 30 s without a status counts as one."""

    breaker_s: Seconds = 10.0
    """How long it is left out. Then one request tries it."""

    max_body_bytes: Positive = 64 * 1024 * 1024
    """Largest request body: images travel inside it."""

    max_answer_bytes: Positive = 64 * 1024 * 1024
    """Largest upstream answer that is held whole (`stream` false)."""

    max_header_bytes: Positive = 64 * 1024
    """Largest header of a request, with its first line; one more byte is a 431."""

    max_input_items: Positive = 50_000
    """Items of one request and of the conversation that it goes on from; messages of a chat
    request."""

    max_tools: Positive = 4096
    """Tools that one request declares."""

    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients may address the service (`Host`), as in `["llm.example.org"]`, or
    `["*.example.org"]`; without any, all. Others get a 421."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the service from a browser, as in `["https://chat.example.org"]`,
    or `["*"]`; without any, none."""

    max_concurrent_requests: Positive = 1000
    """Requests being answered at once; one more gets a 503 that clients retry."""

    connect_timeout_s: Seconds = 10.0
    """Longest wait for a connection to an upstream, its name and TLS included."""

    read_timeout_s: Seconds = 300.0
    """Longest silence of an upstream, before its answer and between two pieces of it."""

    exchange_timeout_s: Seconds = 3600.0
    """Longest time from a request to the end of its answer, all attempts included."""

    progress_timeout_s: Seconds = 900.0
    """Longest time in which an upstream sends signs of life, but no piece of an answer. DeepSeek
    keeps a request for ten minutes in its queue, with comments."""

    client_timeout_s: Seconds = 300.0
    """Longest wait for a client that neither sends the rest of its request nor takes its answer."""

    headers_grace_s: Seconds = 5.0
    """How long our status line waits for the upstream to begin its answer: an error in its place
    is then still an HTTP error."""

    heartbeat_s: Seconds = 15.0
    """Longest silence towards a client whose stream has begun: then an event says that work goes
    on. Clients and proxies give up on a stream that stays silent for a minute or more."""

    websocket: bool = True
    """Whether `GET /v1/responses` may become a WebSocket. Else it is a 426, on which clients go on
    with HTTP."""

    max_websockets: Positive = 1000
    """WebSockets that are open at once; one more gets a 503."""

    max_websocket_s: Seconds = 3600.0
    """How long a WebSocket takes requests. What is being answered then is still finished."""

    max_history_bytes: Positive = 64 * 1024 * 1024
    """How much of its conversations one WebSocket remembers. What was forgotten cannot be gone on
    from."""

    trace_folder: str | None = None
    """Where each exchange is kept, without keys, with all that was said; without it, nowhere."""

    max_traced_exchanges: Positive = 200
    """Exchanges that are kept; the oldest make room."""

    max_traced_bytes: Positive = 16 * 1024 * 1024
    """Largest exchange that is kept whole."""

    log_format: LogFormat = "text"
    """How the log reads: a line of words per request for people, or of JSON for programs."""

    metrics: bool = True
    """Whether `GET /metrics` answers, for Prometheus."""

    metrics_port: Annotated[int, Meta(gt=0, le=65535)] | None = None
    """A TCP port of its own for /metrics, /healthz and /readyz; /metrics is then only there."""

    metrics_host: str = "127.0.0.1"
    """The address of that port."""

    traces: bool = False
    """Spans for OpenTelemetry: one per request and one per call upstream. Where they go is said by
    the environment (`OTEL_*`); needs the extra `otel`."""

    workers: Positive = 1
    """Processes that answer; all bounds are of each of them."""

    reuse_port: bool = False
    """Other processes may listen on the same port, so that a new one can take over from an old."""

    drain_s: Seconds = 30.0
    """How long open answers may go on after SIGTERM. Then they end in a failure that clients
    retry."""


class UpstreamSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[upstreams.NAME]` as it is written. Without a `base_url` it is a mistake."""

    base_url: str | tuple[str, ...] = ""
    """Where it answers, up to and without `/chat/completions`. Several are one upstream, in the
    order of preference."""

    api_key_env: str | None = None
    """The environment variable that holds its key; without it, the client's own is passed on,
    unless there are `[clients]`, whose keys are for this service alone."""

    dialect: str = "auto"
    """What it speaks; "auto" is known from its host, else base."""

    facts: dict[str, Any] = {}
    """What is different from the dialect."""

    headers: dict[str, str] = {}
    """What is sent with each request to it, over all else."""


class ModelSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[models."ID"]` as it is written. Without an `upstream` it is a mistake."""

    upstream: str = ""
    """Which of the upstreams it is on."""

    upstream_model: str | None = None
    """Its id there; without it, the same."""

    context_window: Positive | None = None
    """Tokens, for clients that ask."""

    max_output_tokens: Positive | None = None
    """Tokens; a request for more is cut to it."""

    vision: bool = True
    """Where it takes no images, those in a request become a short text and a notice."""

    dialect: str = "auto"
    """"auto" is here: the same as its upstream's."""

    facts: dict[str, Any] = {}
    """What is different from the dialect and from the upstream's facts."""

    # as in [server]
    reasoning_events: ReasoningEvents | None = None
    hosted_tools: HostedTools | None = None
    strict: bool | None = None
    forward: tuple[str, ...] | None = None


class ClientKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[clients.NAME]` as it is written. Without `keys` it is a mistake."""

    keys: tuple[str, ...] = ()
    """What `translator key new NAME` prints; a second one while the first is being replaced."""

    models: tuple[str, ...] | None = None
    """The models that it may use; without it, all."""

    requests_per_minute: Positive | None = None
    """Requests; without it, any number."""

    tokens_per_minute: Positive | None = None
    """Tokens of requests and answers together; without it, any number."""

    max_concurrent_requests: Positive | None = None
    """Its requests that are answered at once; one more gets a 429."""


class ClientSection(Struct, frozen=True, kw_only=True):
    """A client: its keys, as far as they are known, and what it may do."""

    keys: tuple[StoredKey, ...]
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None


class Upstream(Struct, frozen=True, kw_only=True):
    """Whom we call. Its key and headers are secrets: they are not part of its `repr`."""

    name: str
    base_url: str  # without a slash at its end
    fallback_urls: tuple[str, ...] = ()
    """The same upstream at other addresses, for when the first one fails."""

    dialect: str
    facts: dict[str, Any] = {}
    api_key: str | None = None
    headers: dict[str, str] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        """All its addresses, in the order of preference."""
        return (self.base_url, *self.fallback_urls)

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
    dialect: Dialect
    options: Options
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None  # tokens
    vision: bool = True


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that is fixed for the life of the process.

    Without `models` any model goes to the only upstream; without `clients` everyone may ask.
    """

    server: Server
    upstreams: dict[str, Upstream]
    models: dict[str, Model] = {}
    clients: dict[str, ClientSection] = {}


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
    asked = {name: server[name] for name in Options.__struct_fields__ if name in server}
    models = {
        name: msgspec.structs.replace(
            model, options=msgspec.structs.replace(model.options, **asked)
        )
        for name, model in settings.models.items()
    }
    return msgspec.structs.replace(
        settings, server=msgspec.structs.replace(settings.server, **server), models=models
    )


def options(server: Server, model: ModelSection | None = None) -> Options:
    """How requests are translated: as the model says, else as the server does."""
    own = {name: getattr(model, name, None) for name in Options.__struct_fields__}
    return Options(
        **{name: getattr(server, name) if value is None else value for name, value in own.items()}
    )


def read_table(table: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings in a decoded TOML document; raises SettingsError with every mistake."""
    sections = ("server", "upstreams", "models", "clients")
    problems = [f"{key}: {unknown(key, sections)}" for key in table if key not in sections]
    server = read_section(Server, table.get("server", {}), "server", problems)
    problems += forward_problems(server.forward, "server.forward")
    problems += host_problems(server.allowed_hosts, "server.allowed_hosts")
    problems += origin_problems(server.cors_origins, "server.cors_origins")
    upstreams: dict[str, Upstream | None] = {}
    for name, value in named_sections(table, "upstreams", problems).items():
        upstreams[name] = _upstream(name, value, environ, problems)
    models = [
        _model(model_id, value, upstreams, server, problems)
        for model_id, value in named_sections(table, "models", problems).items()
    ]
    clients = _clients(table, problems)
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
        clients=clients,
    )


def _upstream(
    name: str, value: object, environ: Mapping[str, str], problems: list[str]
) -> Upstream | None:
    path = f"upstreams.{shown_key(name)}"
    before = len(problems)
    section = read_section(UpstreamSection, value, path, problems, required="base_url")
    urls = (section.base_url,) if isinstance(section.base_url, str) else section.base_url
    if section.base_url:
        problems += [f"{path}.base_url: {text}" for url in urls for text in url_problems(url)]
    elif section.base_url == ():
        problems.append(f"{path}.base_url: is an empty list")
    problems += dialect_problems(section.dialect, f"{path}.dialect")
    facts = read_facts(section.facts, f"{path}.facts", problems)
    problems += header_problems(section.headers, f"{path}.headers")
    api_key = None
    if section.api_key_env is not None:
        api_key = environ.get(section.api_key_env, "").strip()
        if not api_key:
            problems.append(
                f"{path}.api_key_env: the environment variable {section.api_key_env} is not set"
            )
        elif not is_header_value(api_key):
            problems.append(
                f"{path}.api_key_env: the environment variable {section.api_key_env} "
                "holds characters that cannot be in a key"
            )
    if len(problems) > before:
        return None
    dialect = section.dialect
    if dialect == "auto":
        known = {known_host(urlsplit(url).hostname or ""): url for url in urls}
        if len(known) > 1:
            problems.append(f"{path}.base_url: speaks several dialects: {', '.join(known)}")
            return None
        [dialect] = known
    first, *others = (url.rstrip("/") for url in urls)
    return Upstream(
        name=name,
        base_url=first,
        fallback_urls=tuple(others),
        dialect=dialect,
        facts=facts,
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
    section = read_section(ModelSection, value, path, problems, required="upstream")
    if section.upstream and section.upstream not in upstreams:
        known = ", ".join(upstreams) or "none"
        problems.append(
            f'{path}.upstream: there is no upstream "{section.upstream}"; known: {known}'
        )
    problems += dialect_problems(section.dialect, f"{path}.dialect")
    facts = read_facts(section.facts, f"{path}.facts", problems)
    problems += forward_problems(section.forward or (), f"{path}.forward")
    if section.upstream_model == "":
        problems.append(f"{path}.upstream_model: must not be empty")
    upstream = upstreams.get(section.upstream)
    if len(problems) > before or upstream is None:  # what is wrong with it is said there
        return None
    dialect = upstream.dialect if section.dialect == "auto" else section.dialect
    upstream_model = section.upstream_model or model_id
    return Model(
        id=model_id,
        upstream=upstream,
        upstream_model=upstream_model,
        dialect=resolved(dialect, upstream_model, upstream.facts, facts),
        options=options(server, section),
        context_window=section.context_window,
        max_output_tokens=section.max_output_tokens,
        vision=section.vision,
    )


def _clients(table: Mapping[str, Any], problems: list[str]) -> dict[str, ClientSection]:
    clients: dict[str, ClientSection] = {}
    salts: set[str] = set()
    for name, value in named_sections(table, "clients", problems).items():
        path = f"clients.{shown_key(name)}"
        section = read_section(ClientKeys, value, path, problems, required="keys")
        if section.keys == () and isinstance(value, dict) and "keys" in value:
            problems.append(f"{path}.keys: no key is given; translator key new {name} makes one")
        keys = [read_stored(text) for text in section.keys]
        for index, key in enumerate(keys):
            if key is None:
                problems.append(
                    f"{path}.keys[{index}]: is not what translator key new {name} prints"
                )
            elif key.salt in salts:
                problems.append(f"{path}.keys[{index}]: is a key that was given before")
            else:
                salts.add(key.salt)
        if isinstance(table.get("models"), dict):
            problems += [
                f'{path}.models: there is no model "{model}"'
                for model in section.models or ()
                if model not in table["models"]
            ]
        fields = msgspec.structs.asdict(section)
        fields["keys"] = tuple(key for key in keys if key is not None)
        clients[name] = ClientSection(**fields)
    if table.get("clients") == {}:
        problems.append("clients: no client is given; without this section everyone may ask")
    return clients


def _as_option(problem: str) -> str:
    """A mistake under the name of the command line option that it came from."""
    path, _, text = problem.partition(": ")
    option = path.rpartition(".")[2].replace("_", "-")
    return f"--{'upstream' if option == 'base-url' else option}: {text}"
