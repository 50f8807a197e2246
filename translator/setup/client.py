"""What a client's configuration must say about this service: where it is, whose key, which models.

Taken from the settings that the service itself is started with, so that both always agree.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from translator.service.config.settings import Server, Settings, SettingsError
from translator.service.models.codex_catalog import Known
from translator.service.models.table import known, unlisted

DEFAULT_KEY_ENV = "TRANSLATOR_API_KEY"
"""The variable for the key that clients pass on, where the operator gave none."""

_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # nosec B104


class Setup(Struct, frozen=True, kw_only=True):
    """What the configuration of any client says."""

    base_url: str
    models: tuple[Known, ...]
    key_env: str | None
    """The environment variable that holds the key; None: the service asks for none."""

    websocket: bool


def setup(
    settings: Settings,
    *,
    models: Sequence[str] = (),
    context_window: int | None = None,
    base_url: str | None = None,
    key_env: str | None = None,
    usual_key_env: str = DEFAULT_KEY_ENV,
    without_key: bool = False,
) -> Setup:
    """The set-up for these settings; raises SettingsError.

    `models` chooses from the table, and names the models where there is none. `context_window`, in
    tokens, is for those of which the settings do not say it. `usual_key_env` holds the key where
    one is needed and `key_env` does not say which.
    """
    found = [_with_window(model, context_window) for model in known_models(settings, models)]
    if not without_key and key_env is None and _asks_for_key(settings, found):
        key_env = usual_key_env
    return Setup(
        base_url=base_url.rstrip("/") if base_url else _address(settings.server),
        models=tuple(found),
        key_env=key_env,
        websocket=settings.server.websocket,
    )


def known_models(settings: Settings, chosen: Sequence[str] = ()) -> list[Known]:
    """The models of the settings, all or those chosen; raises SettingsError."""
    chosen = list(dict.fromkeys(chosen))
    if settings.models:
        if missing := [model for model in chosen if model not in settings.models]:
            there = ", ".join(settings.models)
            raise SettingsError(
                f'--model: there is no model "{model}"; known: {there}' for model in missing
            )
        return [known(settings.models[model]) for model in chosen or settings.models]
    if not chosen:
        raise SettingsError(
            ["without a table of models, any model is accepted: name yours with --model NAME"]
        )
    [upstream] = settings.upstreams.values()
    return [unlisted(model, upstream, settings.server) for model in chosen]


def _with_window(model: Known, context_window: int | None) -> Known:
    return replace(model, context_window=model.context_window or context_window)


def _asks_for_key(settings: Settings, models: Sequence[Known]) -> bool:
    """Whether a client needs a key: one of `[clients]`, or its own for some upstream.

    An upstream takes that when the operator gave none, unless it is a program on this machine.
    """
    if settings.clients:
        return True
    used = {model.upstream for model in models}
    return any(
        not upstream.has_credential and not _is_here(upstream.base_url)
        for upstream in settings.upstreams.values()
        if upstream.name in used
    )


def _is_here(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _address(server: Server) -> str:
    """The base URL under which a client on this machine finds the service."""
    if server.port == 0:
        raise SettingsError(["server.port is 0, any free one: say which it is with --base-url URL"])
    host = _ANY_ADDRESS.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}/v1"
