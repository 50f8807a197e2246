"""The client configuration as plain values: base URL, key, models.

They come from the settings that the service itself is started with, so that both always agree.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from translator.service.config.sections import CATCH_ALL
from translator.service.config.settings import Server, Settings, SettingsError
from translator.service.models.info import (
    ModelInfo,
    caught_model_info,
    model_info,
    unlisted_model_info,
)

DEFAULT_KEY_ENV = "TRANSLATOR_API_KEY"
"""The environment variable of a client's key, where no other is named."""

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # nosec B104


class Setup(Struct, frozen=True, kw_only=True):
    """The values that every client's configuration needs."""

    base_url: str
    models: tuple[ModelInfo, ...]
    key_env: str | None
    """The environment variable that holds the key; None: no key is needed."""

    websocket: bool
    search: bool = False
    """Whether the service has a search of its own."""


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

    `models` selects models of the settings; it is required when they list none. `context_window`,
    in tokens, is for models without one in the settings. `usual_key_env` is the default of
    `key_env` where a key is needed.
    """
    selected = select_models(settings, models)
    found = [_with_window(model, context_window) for model in selected]
    if not without_key and key_env is None and _needs_key(settings, found):
        key_env = usual_key_env
    return Setup(
        base_url=base_url.rstrip("/") if base_url else _address(settings.server),
        models=tuple(found),
        key_env=key_env,
        websocket=settings.server.websocket,
        search=settings.tools is not None and settings.tools.search is not None,
    )


def select_models(settings: Settings, chosen: Sequence[str] = ()) -> list[ModelInfo]:
    """The chosen models of the settings, by default all; raises SettingsError."""
    chosen = list(dict.fromkeys(chosen))
    listed, row = settings.models, settings.catch_all
    unlisted = [model for model in chosen if model not in listed]
    if row is not None and CATCH_ALL not in chosen and (chosen or listed):
        return [
            model_info(listed[model]) if model in listed else caught_model_info(model, row)
            for model in chosen or listed
        ]
    if listed:
        if unlisted:
            known = ", ".join(listed)
            raise SettingsError(
                f'--model: there is no model "{model}"; known: {known}' for model in unlisted
            )
        return [model_info(listed[model]) for model in chosen or listed]
    if not chosen or row is not None:
        raise SettingsError(
            ["the settings list no models, so any model is accepted: name yours with --model NAME"]
        )
    [upstream] = settings.upstreams.values()
    return [unlisted_model_info(model, upstream, settings.server) for model in chosen]


def _with_window(model: ModelInfo, context_window: int | None) -> ModelInfo:
    return replace(model, context_window=model.context_window or context_window)


def _needs_key(settings: Settings, models: Sequence[ModelInfo]) -> bool:
    """Whether a client needs a key: one of `[clients]`, or its own for an upstream.

    An upstream needs the client's own when the operator configured none, unless the upstream runs
    on this machine.
    """
    if settings.needs_keys:
        return True
    used = {model.upstream for model in models}
    return any(
        not upstream.has_credential and not _is_local(upstream.base_url)
        for upstream in settings.upstreams.values()
        if upstream.name in used
    )


def _is_local(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _address(server: Server) -> str:
    """The base URL of the service for clients on this machine."""
    if server.port == 0:
        raise SettingsError(["server.port is 0, so the port is not known: use --base-url URL"])
    host = _LOOPBACK.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}/v1"
