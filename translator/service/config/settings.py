"""Settings: structs of the TOML sections, as written and as resolved.

    settings = [ server ], upstreams, [ models ], [ clients ] ;

`Server`, `UpstreamSection` and `ModelSection` mirror the TOML. `loading.py` resolves them into
`Upstream` and `Model`: the dialect of an upstream is a name but never "auto", that of a model holds
its facts, an API key is the key and not the name of its variable, and a model refers to its
upstream. Sections with a file of their own (`clients.py`, `store.py`, …) are resolved there.

A limit carries its unit in its name. The docstrings of the sections' fields are the reference in
docs/operations.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from translator import Dialect, Options
from translator.common.tools import HostedTools
from translator.wire.events import ReasoningEvents

from .urls import has_version, origin_of

if TYPE_CHECKING:
    from .accounts import Accounts
    from .clients import ClientConfig
    from .store import Store
    from .tools import Tools

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Positive = Annotated[int, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
NotNegativeSeconds = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]

CREDENTIAL_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
"""Headers in which upstreams take an API key, in lower case."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Values of `host` that only programs on this machine can reach."""


class SettingsError(Exception):
    """Settings that cannot be used; `problems` holds every reason, one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the listening address, how requests are translated, and every limit."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` listens on all addresses of the machine."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """TCP port; 0 lets the system choose a free one."""

    reasoning_events: ReasoningEvents = "summary"
    """Events that show the model's reasoning; clients of OpenAI expect `summary`."""

    hosted_tools: HostedTools = "drop"
    """How to treat a tool that only OpenAI's servers can run: drop it with a notice, or reject the
    request."""

    strict: bool = False
    """Reject a request if the translation would drop or weaken anything in it."""

    forward: tuple[str, ...] = Options().forward
    """Request fields beyond the Responses API that are sent upstream unchanged."""

    retry_refused: bool = True
    """Retry a request without an optional field that the upstream rejects, or in the form that it
    asks for."""

    fallback_ttl_s: Seconds = 600.0
    """How long a conversation stays with the model of `fallbacks` that answered it, where its
    prompt cache is; then the first choice is tried again."""

    fallback_budget_s: Seconds = 900.0
    """How long after its beginning a request may still go to its next choice. Longer than
    `read_timeout_s`, after which a silent upstream is given up."""

    refused_ttl_s: Seconds = 6 * 3600.0
    """How long it is remembered what an upstream's model has rejected. A conversation pays for a
    refusal once, and an upstream that has been mended is used in full again on the same day."""

    retries: NotNegative = 2
    """Retries of a request that an upstream did not accept: the connection failed, an idle one was
    closed, or the upstream asked to try again later."""

    retry_budget_percent: Percent = 20.0
    """Largest share of the requests to an upstream that may be retries: more would add to an
    overload."""

    max_retry_after_s: NotNegativeSeconds = 2.0
    """Longest `Retry-After` of an upstream to wait for here; a longer one is passed to the client.
    All attempts should fit into `headers_grace_s`, so that a failure is still an HTTP error."""

    breaker_failures: Positive = 5
    """Consecutive failures that open the circuit breaker of one address, where an upstream has
    several. A client that gives up after more than 30 s without a status counts as one."""

    breaker_s: Seconds = 10.0
    """How long the circuit breaker stays open. Then one request tries the address."""

    max_body_bytes: Positive = 64 * 1024 * 1024
    """Largest request body, images included; of a compressed one, what it becomes."""

    max_answer_bytes: Positive = Options().max_answer_bytes
    """Most bytes that are held of one answer: text, reasoning, arguments of calls, and so on. A
    larger one ends in a failure that clients do not retry."""

    max_output_items: Positive = Options().max_output_items
    """Most output items of an answer, with the same end."""

    max_held_bytes: Positive = 1024 * 1024 * 1024
    """Most bytes that are held of all answers in progress. Beyond it, the largest one ends. As much
    again may be held of the conversations of WebSockets."""

    max_header_bytes: Positive = 64 * 1024
    """Largest request line and headers together; a larger request gets a 431."""

    max_input_items: Positive = 50_000
    """Most input items of a request, those of the conversation that it continues included; most
    messages of a chat request."""

    max_tools: Positive = 4096
    """Most tools that a request may declare."""

    allowed_hosts: tuple[str, ...] = ()
    """Hosts that requests may be addressed to (`Host`), as in `["llm.example.org"]` or
    `["*.example.org"]`; empty: any. Other requests get a 421."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the service from a browser, as in `["https://chat.example.org"]`
    or `["*"]`; empty: none."""

    max_concurrent_requests: Positive = 1000
    """Most requests in progress at once; one more gets a 503, which clients retry."""

    max_connections: Positive = 4000
    """Most client connections open at once; fewer where the limit of open files (`LimitNOFILE`)
    leaves no room for as many. One more takes the place of the one that has been idle longest; if
    all are in use, it gets a 503."""

    max_upload_bytes: Positive = 512 * 1024 * 1024
    """Memory for request bodies and WebSocket messages that are still arriving, of all clients
    together. Beyond it the one that has taken longest gets a 503."""

    connect_timeout_s: Seconds = 10.0
    """Longest wait for a connection to an upstream, DNS and TLS included."""

    read_timeout_s: Seconds = 300.0
    """Longest silence of an upstream, before its response and between two chunks of it."""

    exchange_timeout_s: Seconds = 3600.0
    """Longest time from a request to the end of its response, all attempts included."""

    progress_timeout_s: Seconds = 900.0
    """Longest time in which an upstream sends only keep-alives, such as comments or empty chunks.
    DeepSeek sends comments while a request waits in its queue, for up to ten minutes."""

    client_timeout_s: Seconds = 300.0
    """Longest wait for a client that stops sending its request or reading its response; longest
    time for the header of a request."""

    upload_timeout_s: Seconds = 1800.0
    """Longest time for the body of a request, or a message on a WebSocket, to arrive whole."""

    min_upload_bytes_per_s: NotNegative = 4096
    """Least rate at which it has to arrive, from its beginning, once `client_timeout_s` have
    passed; 0: any rate."""

    keep_alive_timeout_s: Seconds = 120.0
    """How long an idle client connection stays open. Longer than clients keep theirs (reqwest:
    90 s): a request that meets a closing connection is lost."""

    headers_grace_s: Seconds = 5.0
    """How long the status line is held back for the upstream to begin its response: until then an
    error is still an HTTP error."""

    heartbeat_s: Seconds = 15.0
    """Longest silence in a stream to a client before a heartbeat event is sent. Clients and proxies
    give up on a stream that is silent for a minute or more."""

    websocket: bool = True
    """Accept WebSockets at `GET /v1/responses`; if not, a 426 makes clients fall back to HTTP."""

    max_websockets: Positive = 1000
    """Most WebSockets open at once; one more gets a 503."""

    max_websocket_s: Seconds = 3600.0
    """How long a WebSocket accepts requests. A response in progress is still finished."""

    max_history_bytes: Positive = 64 * 1024 * 1024
    """Memory for the conversations of one WebSocket. The oldest responses are dropped first and can
    no longer be continued. All WebSockets together have `max_held_bytes`."""

    describe_timeout_s: Seconds = 60.0
    """Longest time that the images of a request wait to be described (`describe_images_with`); then
    a placeholder is sent."""

    max_described_images: Positive = 16
    """Most images of a request that are described before it is sent, the latest ones; those that
    were described before do not count."""

    image_descriptions: str | None = None
    """File that descriptions are kept in, so that conversations stay the same after a restart and
    with several `workers`; by default only in memory."""

    trace_folder: str | None = None
    """Folder in which each exchange is recorded, with its full content but without keys."""

    max_traced_exchanges: Positive = 200
    """Most recorded exchanges; the oldest are deleted first."""

    max_traced_bytes: Positive = 16 * 1024 * 1024
    """Largest exchange that is recorded whole."""

    log_level: LogLevel | None = None
    """Lowest level that is logged; `info` logs one line per request. By default `info`, or
    `warning` with `watch`."""

    log_format: LogFormat = "text"
    """Format of the log: one line per request, as text for people or as JSON for programs. Workers
    have that of their parent, so a change needs a restart."""

    watch: bool = False
    """Show the progress of all requests on standard output; not with several `workers`."""

    metrics: bool = True
    """Serve `GET /metrics`, for Prometheus."""

    metrics_port: Annotated[int, Meta(gt=0, le=65535)] | None = None
    """A separate TCP port for /metrics, /healthz and /readyz; /metrics is then only there."""

    metrics_host: str = "127.0.0.1"
    """Address of the separate port."""

    status_page: bool | None = None
    """Serve a page for people at `/`: models, set-ups of clients, what is being answered. By
    default only where `host` is a loopback address and there are no `[clients]`. What is being
    answered is shown to browsers on this machine; with `[clients]`, each key shows its own."""

    traces: bool = False
    """Send OpenTelemetry spans: one per request and one per upstream call. The environment
    (`OTEL_*`) says where to; needs the extra `otel`."""

    workers: Positive = 1
    """Worker processes. The limits of a client are those of all of them together, all other limits
    are those of each."""

    worker_timeout_s: Seconds = 30.0
    """How long the event loop of a worker may stand still, where there are several; then the worker
    is replaced, and killed if it does not end."""

    reuse_port: bool = False
    """Let other processes listen on the same port: a new one can then take over from an old one."""

    drain_s: Seconds = 30.0
    """How long responses in progress may take after SIGTERM. Then they fail with an error that
    clients retry."""


class UpstreamSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[upstreams.NAME]` as it is written. `base_url` is required."""

    base_url: str | tuple[str, ...] = ""
    """Its URL without `/chat/completions`. Several URLs are replicas of one upstream, in order of
    preference."""

    api_key_env: str | None = None
    """Environment variable that holds its API key; without it, the client's key is passed on,
    unless there are `[clients]`, whose keys are for this service alone."""

    dialect: str = "auto"
    """Its dialect; "auto" finds it by the host name, else it is `base`."""

    facts: dict[str, Any] = {}
    """Facts that override those of the dialect."""

    headers: dict[str, str] = {}
    """Headers of each request to it; they override all others."""


class ModelSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[models."ID"]` as it is written. `upstream` is required.

    `[models."*"]` serves every name that has no section of its own.
    """

    upstream: str | tuple[str, ...] = ""
    """The name of its upstream. Several have the same model, in order of preference: the next one
    is asked where one fails, as with `fallbacks`."""

    upstream_model: str | None = None
    """Its id at the upstream; by default the same; for `"*"`, the name that the client gave."""

    context_window: Positive | None = None
    """Tokens; shown to clients."""

    max_output_tokens: Positive | None = None
    """Tokens; a request for more is limited to it."""

    vision: bool = True
    """Whether it accepts images; if not, images in a request become a short text and a notice."""

    compact_with: str | None = None
    """Another model of the table, which writes the summary where a conversation is compacted (a
    `compaction_trigger`, or `POST /v1/responses/compact`); by default the same. Clients need not be
    allowed to use it. Its id is in the response header `x-translator-model`."""

    describe_images_with: str | None = None
    """Another model of the table, which describes images for this one, that takes text only: once
    for each image, and the description stands in its place. Clients need not be allowed to use it,
    and see a model that takes images."""

    dialect: str = "auto"
    """Its dialect; "auto" is that of its upstream."""

    facts: dict[str, Any] = {}
    """Facts that override those of the dialect and of the upstream."""

    fallbacks: tuple[str, ...] = ()
    """Models of the table that are asked, in this order, where this one cannot answer: it cannot be
    reached, takes too long, fails, has no quota left, or is gone. Only as long as the client has
    nothing of an answer."""

    fallback_on_overflow: bool = False
    """Ask them, too, where the request is too long for its context window."""

    fallback_after_s: Seconds | None = None
    """Longest wait for the beginning of an answer, keep-alives aside, before the next one is asked;
    where the client asks for no stream, for all of it. By default only `read_timeout_s` counts."""

    # as in [server]
    reasoning_events: ReasoningEvents | None = None
    hosted_tools: HostedTools | None = None
    strict: bool | None = None
    forward: tuple[str, ...] | None = None
    max_answer_bytes: Positive | None = None
    max_output_items: Positive | None = None


class Upstream(Struct, frozen=True, kw_only=True):
    """An upstream. Its key and headers are secrets and left out of its `repr`."""

    name: str
    base_url: str  # without a trailing slash
    fallback_urls: tuple[str, ...] = ()
    """URLs of its other replicas, for when the first one fails."""

    dialect: str
    facts: dict[str, Any] = {}
    api_key: str | None = None
    headers: dict[str, str] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all its replicas, in order of preference."""
        return (self.base_url, *self.fallback_urls)

    @property
    def has_version(self) -> bool:
        """Whether the path of each URL names a version of the API, as `/v1` does."""
        return all(map(has_version, self.urls))

    @property
    def has_credential(self) -> bool:
        """Whether the operator configured a key: the client's own must not be passed on then."""
        return self.api_key is not None or not CREDENTIAL_HEADERS.isdisjoint(
            map(str.lower, self.headers)
        )

    def shares_keys_with(self, other: Upstream) -> bool:
        """Whether a client's key for one of them may go to the other: it has the same hosts."""
        return self is other or {*map(origin_of, self.urls)} == {*map(origin_of, other.urls)}

    def __repr__(self) -> str:
        return f"Upstream({self.name!r}, {self.base_url!r}, dialect={self.dialect!r})"


class Model(Struct, frozen=True, kw_only=True):
    """One row of the model table: a model id for clients, and what serves it."""

    id: str
    upstream: Upstream
    upstream_model: str
    dialect: Dialect
    options: Options
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None  # tokens
    vision: bool = True
    elsewhere: tuple[Model, ...] = ()
    """The same model on its further upstreams."""

    fallbacks: tuple[str, ...] = ()
    """Ids of the models that are asked after it."""
    fallback_on_overflow: bool = False
    fallback_after_s: float | None = None
    compact_with: str | None = None
    """The id of the model that compacts conversations in its place; None: it does so itself."""

    describe_images_with: str | None = None
    """The id of the model that describes images for it."""


class CatchAll(Struct, frozen=True, kw_only=True):
    """`[models."*"]`: what serves a name without a row. Its dialect depends on the name."""

    upstream: Upstream
    upstream_model: str | None
    """Its id at the upstream; None: the name that the client gave."""

    dialect: str
    facts: dict[str, Any]
    """Facts over those of the upstream."""

    options: Options
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None  # tokens
    vision: bool = True
    compact_with: str | None = None
    describe_images_with: str | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """The resolved settings, fixed for the life of the process.

    Without `models` and `catch_all` any model goes to the only upstream; without `clients` and
    `accounts` requests need no key; without a `store` no response is stored, without `tools` none
    is run.
    """

    server: Server
    upstreams: dict[str, Upstream]
    models: dict[str, Model] = {}
    catch_all: CatchAll | None = None
    clients: dict[str, ClientConfig] = {}
    store: Store | None = None
    accounts: Accounts | None = None
    tools: Tools | None = None

    @property
    def describing_models(self) -> frozenset[str]:
        """The ids of the models that describe images for others."""
        named = {model.describe_images_with for model in self.models.values()}
        if self.catch_all is not None:
            named.add(self.catch_all.describe_images_with)
        return frozenset(name for name in named if name is not None)

    @property
    def serves_page(self) -> bool:
        """Whether there is a page at `/`."""
        asked = self.server.status_page
        return asked if asked is not None else not self.needs_keys and self.server.host in LOOPBACK

    @property
    def needs_keys(self) -> bool:
        """Whether clients need a key of this service."""
        return bool(self.clients) or self.accounts is not None
