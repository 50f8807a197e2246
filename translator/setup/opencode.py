"""What stands in `opencode.json` so that OpenCode uses this service.

    { "provider": { "translator": { npm, options, models } }, "model": "translator/ID" }

OpenCode speaks both APIs, each by a package that it brings along. Over the Responses API reasoning
comes back to the model whatever the upstream calls it; over Chat Completions requests go through as
they are, and OpenCode must be told the name of the field.

What is in the file already is kept, but JSON has no place for comments: a file with comments is
left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from translator.service.config.settings import SettingsError
from translator.service.models.codex_catalog import Known
from translator.wire.json_values import as_object

from .client import Setup

Api = Literal["responses", "chat"]

PROVIDER = "translator"
PACKAGES: Mapping[Api, str] = {"responses": "@ai-sdk/openai", "chat": "@ai-sdk/openai-compatible"}
NO_KEY = "none"
"""What OpenCode sends where no key is needed: it does not start without one."""

_ENV = re.compile(r"\{env:(.+)\}")
_INDENT = re.compile(r'\{\r?\n([ \t]+)"')


def provider(setup: Setup, api: Api) -> dict[str, Any]:
    """`provider.translator`."""
    return {
        "npm": PACKAGES[api],
        "name": "translator",
        "options": {
            "baseURL": setup.base_url,
            "apiKey": NO_KEY if setup.key_env is None else f"{{env:{setup.key_env}}}",
        },
        "models": {model.id: _model(model, api) for model in setup.models},
    }


def _model(model: Known, api: Api) -> dict[str, Any]:
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
        # 0 is OpenCode's own way to say that it does not know.
        output = model.max_output_tokens or 0
        settings["limit"] = {"context": model.context_window, "output": output}
    if api == "chat" and model.dialect.reasoning_field is not None:
        settings["interleaved"] = {"field": model.dialect.reasoning_field}
    return settings


class File:
    """An `opencode.json`, whose text is None where there is none yet.

    Raises SettingsError when it cannot be kept, because it cannot be read.
    """

    def __init__(self, name: str, text: str | None) -> None:
        self._text = text
        self._values: dict[str, Any] = {"$schema": "https://opencode.ai/config.json"}
        if text is not None and text.strip():
            self._values = _read(name, text)

    @property
    def key_env(self) -> str | None:
        """The variable that holds the key, as an earlier run or a person wrote it."""
        providers = as_object(self._values.get("provider")) or {}
        options = as_object((as_object(providers.get(PROVIDER)) or {}).get("options")) or {}
        named = _ENV.fullmatch(str(options.get("apiKey")))
        return named[1] if named else None

    def with_setup(self, setup: Setup, api: Api, default: str | None) -> str:
        """The new text. `default` is the model to begin with; None: as it is.

        A file that is new gets the first model.
        """
        new: dict[str, Any] = {"provider": {PROVIDER: provider(setup, api)}}
        if default is None and self._text is None:
            default = setup.models[0].id
        if default is not None:
            new["model"] = f"{PROVIDER}/{default}"
        values = _over(self._values, new)
        if self._text is not None and values == self._values:
            return self._text
        indent = _INDENT.match(self._text or "")
        return json.dumps(values, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"


def _read(name: str, text: str) -> dict[str, Any]:
    try:
        values = as_object(json.loads(text))
    except ValueError as error:
        reason = f"{name} is not plain JSON ({error}): comments in it would be lost"
        way_out = "print what belongs in it, without --write, and put it in by hand"
        raise SettingsError([f"{reason}; {way_out}"]) from None
    if values is None:
        raise SettingsError([f"{name} is not a JSON object"])
    return values


def _over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`, object by object."""
    merged = dict(old)
    for key, value in new.items():
        inner, outer = as_object(value), as_object(old.get(key))
        merged[key] = _over(outer, inner) if inner is not None and outer is not None else value
    return merged
