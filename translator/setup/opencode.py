"""OpenCode configuration: the keys in `opencode.json` that make it use this service.

    { "provider": { "translator": { npm, options, models } }, "model": "translator/ID" }

OpenCode speaks both APIs, each through a bundled package. Over the Responses API reasoning returns
to the model under any field name; over Chat Completions requests are passed through unchanged, and
the configuration must name the field.

Existing content is kept byte for byte. A file with comments, which JSON has not, is rejected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from translator.service.config.settings import SettingsError
from translator.service.models.info import ModelInfo
from translator.wire.json_values import as_object

from .client import Setup
from .json_members import merged

Api = Literal["responses", "chat"]

PROVIDER = "translator"
PACKAGES: Mapping[Api, str] = {"responses": "@ai-sdk/openai", "chat": "@ai-sdk/openai-compatible"}
NO_KEY = "none"
"""The key where none is needed: OpenCode does not start without one."""

_ENV = re.compile(r"\{env:(.+)\}")


def provider(setup: Setup, api: Api) -> dict[str, Any]:
    """The object `provider.translator`."""
    return {
        "npm": PACKAGES[api],
        "name": "translator",
        "options": {
            "baseURL": setup.base_url,
            "apiKey": NO_KEY if setup.key_env is None else f"{{env:{setup.key_env}}}",
        },
        "models": {model.id: _model(model, api) for model in setup.models},
    }


def _model(model: ModelInfo, api: Api) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "name": model.id,
        "attachment": model.images,
        "reasoning": model.dialect.thinks_by_default or bool(model.efforts),
        "tool_call": True,
        "modalities": {
            "input": ["text", "image"] if model.images else ["text"],
            "output": ["text"],
        },
    }
    if model.context_window is not None:
        # OpenCode writes 0 where the limit is not known.
        output = model.max_output_tokens or 0
        settings["limit"] = {"context": model.context_window, "output": output}
    if api == "chat" and model.dialect.reasoning_field is not None:
        settings["interleaved"] = {"field": model.dialect.reasoning_field}
    return settings


class File:
    """An `opencode.json`; `text` is None when the file does not exist yet.

    Raises SettingsError when it cannot be parsed, and so cannot be edited.
    """

    def __init__(self, name: str, text: str | None) -> None:
        self._text = text
        self._values: dict[str, Any] = {"$schema": "https://opencode.ai/config.json"}
        if text is not None and text.strip():
            self._values = _read(name, text)

    @property
    def key_env(self) -> str | None:
        """The environment variable of the key in the existing configuration."""
        providers = as_object(self._values.get("provider")) or {}
        options = as_object((as_object(providers.get(PROVIDER)) or {}).get("options")) or {}
        named = _ENV.fullmatch(str(options.get("apiKey")))
        return named[1] if named else None

    def with_setup(self, setup: Setup, api: Api, default: str | None) -> str:
        """The new text. `default` is the default model; None: leave it as it is.

        In a new file it is the first model.
        """
        new: dict[str, Any] = {"provider": {PROVIDER: provider(setup, api)}}
        if default is None and self._text is None:
            default = setup.models[0].id
        if default is not None:
            new["model"] = f"{PROVIDER}/{default}"
        if self._text is None or not self._text.strip():
            return json.dumps(self._values | new, indent=2, ensure_ascii=False) + "\n"
        return merged(self._text, new)


def _read(name: str, text: str) -> dict[str, Any]:
    try:
        values = as_object(json.loads(text))
    except ValueError as error:
        reason = f"{name} is not plain JSON ({error}): comments in it would be lost"
        way_out = "print the configuration, without --write, and add it by hand"
        raise SettingsError([f"{reason}; {way_out}"]) from None
    if values is None:
        raise SettingsError([f"{name} is not a JSON object"])
    return values


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`; inner objects are merged, too."""
    merged = dict(old)
    for key, value in new.items():
        inner, outer = as_object(value), as_object(old.get(key))
        merged[key] = merge(outer, inner) if inner is not None and outer is not None else value
    return merged
