"""One session: a service and a client in front of it, from the checks to the exit code.

    the program is there, the upstream is reachable, it takes the key, the model is known
    ──► the client runs ──► what went wrong with the service, and where its log is

Whatever is wrong is said before the client starts, in one sentence: a client would show its own
error for it, after several retries.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from translator.service.config.proxies import proxies_of
from translator.service.config.settings import Settings, Upstream
from translator.setup.client import DEFAULT_KEY_ENV, Setup, setup
from translator.wire.errors import CredentialRefused
from translator.wire.json_values import as_list, as_object

from .clients import Kind, start_of, target_of
from .foreground import CannotRun, exit_code, run_in_foreground
from .service_process import Reply, ServiceFailed, ServiceProcess

CONNECT_S = 10.0
"""Longest wait for a connection to the upstream, before the client starts."""

LIST_S = 10.0
"""Longest wait for the upstream's list of models."""

HINT_S = 3.0
"""Longest wait for what the service finds out about a base URL without a list of models."""

MAX_MODELS = 200
"""How many models of an upstream's list a client gets: each takes 4 KiB in Codex's catalog."""

MAX_NAMED = 5
"""How many models a message names."""

MAX_LINE = 300
"""Longest line of the log that is shown, in characters."""

_PORTS = {"http": 80, "https": 443}

_NO_CHAT = re.compile(r"embed|rerank|whisper|tts|moderation|dall-e|image|transcri", re.IGNORECASE)
"""Models that no agent can use, by their names."""

_ENDED_ON_PURPOSE = frozenset({0, 129, 130, 143})
"""Exit codes of a client that succeeded, or that a signal from outside ended."""


class CannotLaunch(Exception):
    """The client cannot be started; the text is the sentence to print."""


class Asked(Struct, frozen=True, kw_only=True):
    """What the user asked for."""

    command: Sequence[str]
    options: Sequence[str]
    """Options of `translator serve`."""

    model: str | None = None
    context_window: int | None = None
    api_key_env: str | None = None
    log: Path | None = None
    """The file for the service's log; None: a temporary one, kept where something went wrong."""


def run(
    asked: Asked, settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]
) -> int:
    """Run one session; returns the client's exit code. Raises CannotLaunch and SettingsError.

    `say` prints a line for the user.
    """
    program = shutil.which(asked.command[0], path=environ.get("PATH"))
    if program is None:
        raise CannotLaunch(_missing(asked.command[0]))
    target = target_of(asked.command)
    _check_reachable(_upstreams(settings, asked.model, target.kind), environ)
    with ExitStack() as stack:
        stack.enter_context(_ending_in_order())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="translator-up-")))
        log = asked.log or folder / "service.log"
        try:
            service = ServiceProcess(asked.options, log)
        except ServiceFailed as error:
            raise CannotLaunch(str(error)) from None
        stack.callback(service.stop)
        known = None
        if target.kind != "other" or asked.model is not None:
            known = _setup(asked, settings, service, say)
        else:
            _check_key(settings, service, asked)
        start = start_of(
            asked.command,
            target,
            known,
            base_url=service.base_url,
            key=service.key,
            environ=environ,
            folder=folder,
        )
        if sys.stderr.isatty():
            say(_start_line(asked, settings, known))
        try:
            code = run_in_foreground(program, start.command, start.environ)
        except CannotRun as error:
            raise CannotLaunch(f"{program} cannot be run: {error}") from None
        status = service.stop()
        for line in _report(service, status, code, log, kept=asked.log is not None):
            say(line)
        return code


@contextmanager
def _ending_in_order() -> Generator[None]:
    """Have SIGTERM and SIGHUP end us as Ctrl-C does, with the service stopped and no files left.

    While the client runs they are its own; where they are ignored (`nohup`), they stay so.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    numbers = [signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])]
    before = {one: signal.getsignal(one) for one in numbers}
    for one, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(one, end)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


# --- checks ------------------------------------------------------------------------------------


def _missing(program: str) -> str:
    if "/" in program or "\\" in program:
        return f"there is no program {program}"
    hint = {
        "codex": ": install it with npm install -g @openai/codex",
        "opencode": ": install it with npm install -g opencode-ai",
    }
    return f"there is no program {program} in PATH{hint.get(program, '')}"


def _upstreams(settings: Settings, model: str | None, kind: Kind) -> list[Upstream]:
    """The upstreams of which the client needs one: that of its model, where this is known."""
    if model is None and kind != "other":
        model = next(iter(settings.models), None)
    row = settings.models.get(model or "") or (settings.catch_all if model else None)
    return [row.upstream] if row is not None else list(settings.upstreams.values())


def _check_reachable(upstreams: Sequence[Upstream], environ: Mapping[str, str]) -> None:
    """Raise CannotLaunch where no address of any upstream can be connected to."""
    proxies = proxies_of(environ)
    problems: list[str] = []
    for url in [url for upstream in upstreams for url in upstream.urls]:
        if proxies.proxy_for(url) is not None:
            return  # only the proxy knows
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        try:
            socket.create_connection((host, port), CONNECT_S).close()
        except socket.gaierror:
            problems.append(f"there is no host {host}")
        except ConnectionRefusedError:
            problems.append(f"nothing listens at {host}:{port}: is it running?")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it does not answer"
            problems.append(f"{host}:{port}: {reason.lower()}")
        else:
            return
    first = upstreams[0].base_url
    raise CannotLaunch(f"the upstream {first} cannot be reached: {problems[0]}")


def _check_key(settings: Settings, service: ServiceProcess, asked: Asked) -> None:
    """Raise CannotLaunch where the only upstream refuses the key, or the lack of one."""
    if not settings.models and settings.catch_all is None:
        _list_of(service, settings, asked)


def _list_of(service: ServiceProcess, settings: Settings, asked: Asked) -> Reply:
    """The models of the service; with one upstream and no table, they come from there."""
    try:
        reply = service.get("/v1/models?client_version=up", LIST_S)
    except TimeoutError:
        if asked.model is not None:
            return Reply(504, None)
        raise CannotLaunch(
            f"the upstream {_urls(settings)} has not listed its models within {LIST_S:g} s; "
            "name one with --model NAME"
        ) from None
    except OSError as error:
        raise CannotLaunch(f"the service did not answer: {error}") from None
    if reply.status in (401, 403):
        [upstream] = settings.upstreams.values()
        if not upstream.has_credential:
            raise CannotLaunch(
                f"the upstream {upstream.base_url} wants a key: put it into an environment variable"
                " and name that with --api-key-env NAME"
            )
    if reply.status != 200 and reply.message == CredentialRefused().message:
        where = f" in {asked.api_key_env}" if asked.api_key_env else ""
        raise CannotLaunch(f"the upstream {_urls(settings)} refuses the key{where}")
    if not _windows(reply) and any(not one.has_version for one in settings.upstreams.values()):
        _check_path(service, _urls(settings))
    return reply


def _check_path(service: ServiceProcess, url: str) -> None:
    """Raise CannotLaunch where the service finds that a base URL misses its path."""
    until = time.monotonic() + HINT_S
    while time.monotonic() < until:
        hints = as_object((service.get("/readyz").value or {}).get("hints")) or {}
        for hint in hints.values():
            raise CannotLaunch(f"the upstream {url} has no list of models there: its {hint}")
        time.sleep(0.1)


# --- models ------------------------------------------------------------------------------------


def _setup(
    asked: Asked, settings: Settings, service: ServiceProcess, say: Callable[[str], None]
) -> Setup:
    """The models for the client, the one to use first."""
    windows: dict[str, int | None] = {}
    if settings.models or settings.catch_all is not None:
        names = [asked.model] if asked.model is not None else []
        listed = [name for name in settings.models if name not in names]
        names += listed
    else:
        reply = _list_of(service, settings, asked)
        windows = _windows(reply)
        names = _names(asked.model, list(windows), reply, say)
    found = setup(
        settings,
        models=names[:MAX_MODELS],
        base_url=service.base_url,
        key_env=DEFAULT_KEY_ENV,
    )
    models = tuple(
        replace(
            model,
            context_window=model.context_window or windows.get(model.id) or asked.context_window,
        )
        for model in found.models
    )
    return replace(found, models=models)


def _windows(reply: Reply) -> dict[str, int | None]:
    """The context window of each model of a list; None where the upstream does not say."""
    found: dict[str, int | None] = {}
    for one in as_list((reply.value or {}).get("data")) or []:
        name = (as_object(one) or {}).get("id")
        if isinstance(name, str) and name:
            found[name] = None
    for one in as_list((reply.value or {}).get("models")) or []:
        entry = as_object(one) or {}
        window = entry.get("context_window")
        if entry.get("slug") in found and isinstance(window, int):
            found[str(entry["slug"])] = window
    return found


def _names(
    asked: str | None, listed: list[str], reply: Reply, say: Callable[[str], None]
) -> list[str]:
    """The models for the client, the one to use first. Raises CannotLaunch without any."""
    if asked is not None:
        if listed and asked not in listed:
            close = difflib.get_close_matches(asked, listed, MAX_NAMED, 0.4)
            say(f'the upstream does not list the model "{asked}"; it lists {_few(listed, close)}')
        return [asked, *(name for name in listed if name != asked)]
    usable = [name for name in listed if not _NO_CHAT.search(name)]
    if not usable:
        why = f" ({reply.status}: {reply.message})" if reply.status != 200 else ""
        raise CannotLaunch(f"the upstream lists no models{why}: name yours with --model NAME")
    if len(usable) > 1:
        say(f"the model is {usable[0]}, the first of {_few(usable)}; --model NAME chooses another")
    return usable


def _few(names: Sequence[str], close: Sequence[str] = ()) -> str:
    """Some names for a message: the close ones, else the first."""
    shown = list(close or names[:MAX_NAMED])
    return ", ".join(shown) + (", …" if len(shown) < len(names) else "")


def _start_line(asked: Asked, settings: Settings, known: Setup | None) -> str:
    """What the client is started with, and what it does not know."""
    line = f"{Path(asked.command[0]).name} on {_urls(settings)}"
    if known is None:
        return line
    first = known.models[0]
    if first.context_window is None:
        line += "; its context window is not known, so say it with --context-window TOKENS"
    return f"{first.id} for {line}"


# --- the end -----------------------------------------------------------------------------------


def _report(
    service: ServiceProcess, status: int | None, code: int, log: Path, *, kept: bool
) -> list[str]:
    """What the user should know of the service, now that the terminal is free again."""
    lines: list[str] = []
    if status is not None:
        lines.append(f"the service ended before the client, with status {exit_code(status)}")
    elif service.troubles:
        what = "1 warning" if service.troubles == 1 else f"{service.troubles} warnings"
        lines.append(f"the service logged {what}, at last: {service.last_trouble[:MAX_LINE]}")
    elif service.failures and code not in _ENDED_ON_PURPOSE:
        lines.append(f"a request failed: {service.last_failure[:MAX_LINE]}")
    if not lines:
        return []
    if not kept:
        log = _keep(log)
    return [*lines, f"log of the service: {log}"]


def _keep(log: Path) -> Path:
    """Move the log out of the folder that is deleted."""
    handle, name = tempfile.mkstemp(prefix="translator-up-", suffix=".log")
    with os.fdopen(handle, "wb") as kept:
        for part in (Path(f"{log}.1"), log):
            if part.exists():
                kept.write(part.read_bytes())
    return Path(name)


def _urls(settings: Settings) -> str:
    return ", ".join(upstream.base_url for upstream in settings.upstreams.values())
