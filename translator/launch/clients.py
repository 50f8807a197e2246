"""The command and environment of each client program, so that it uses the service.

    codex      options -c for a provider and the model, and a catalog in a temporary file
    opencode   a configuration in OPENCODE_CONFIG_CONTENT
    others     OPENAI_BASE_URL and OPENAI_API_KEY

No file of the user's is changed. Codex and OpenCode read them, too, so login, history and all other
settings remain; options and that variable override them (Codex CLI 0.169 to 0.171, OpenCode 1.18).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from translator.common.toml import toml_key, toml_value
from translator.service.models.codex_catalog import catalog_entries
from translator.setup.client import DEFAULT_KEY_ENV, Setup
from translator.setup.codex import (
    CATALOG,
    FEATURES,
    SEARCH_FEATURE,
    TABLE,
    profile_keys,
    provider_keys,
)
from translator.setup.opencode import PROVIDER as OPENCODE_PROVIDER
from translator.setup.opencode import merge, provider
from translator.wire.json_values import as_object

Kind = Literal["codex", "opencode", "other"]

OPENCODE_VARIABLE = "OPENCODE_CONFIG_CONTENT"

_RUNNERS = frozenset("bun bunx env mise nice node npm npx pnpm pnpx time yarn".split())
"""Programs that run another one, which stands among their arguments."""

_SUFFIX = re.compile(r"(?:\.(?:js|mjs|exe|cmd|bat|ps1))?(?:@[^/@]*)?$")


class Target(Struct, frozen=True):
    """The client in a command, and where its own options begin."""

    kind: Kind
    options_at: int


class Start(Struct, frozen=True):
    """The command and the environment of a client."""

    command: list[str]
    environ: dict[str, str]


def target_of(command: Sequence[str]) -> Target:
    """The client that a command starts, by its program's name; also behind `npx` and the like."""
    last = len(command) if _name(command[0]) in _RUNNERS else 1
    for position, word in enumerate(command[:last]):
        match _name(word):
            case "codex":
                return Target("codex", position + 1)
            case "opencode" | "opencode-ai":
                return Target("opencode", position + 1)
            case _:
                pass
    return Target("other", 1)


def start_of(
    command: Sequence[str],
    target: Target,
    setup: Setup | None,
    *,
    base_url: str,
    key: str,
    environ: Mapping[str, str],
    folder: Path,
) -> Start:
    """The start of a client; `setup` has the model to use first, and is there for known ones.

    `folder` is for files of this run alone.
    """
    own = {DEFAULT_KEY_ENV: key} | _direct(environ)
    if setup is None or target.kind == "other":
        own |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_BASE": base_url, "OPENAI_API_KEY": key}
        return Start(list(command), {**environ, **own})
    if target.kind == "opencode":
        own[OPENCODE_VARIABLE] = _opencode(setup, environ.get(OPENCODE_VARIABLE))
        return Start(list(command), {**environ, **own})
    options = _codex(setup, folder)
    at = target.options_at
    return Start([*command[:at], *options, *command[at:]], {**environ, **own})


def _codex(setup: Setup, folder: Path) -> list[str]:
    """Codex's options; an option -c is a key of its config.toml for this run."""
    catalog = folder / CATALOG
    catalog.write_bytes(msgspec.json.encode({"models": catalog_entries(setup.models)}))
    table = {name: value for name, value in provider_keys(setup).items() if value is not None}
    keys: dict[str, object] = {
        **profile_keys(setup.models[0], search=setup.search),
        "model_catalog_json": str(catalog),
        ".".join(map(toml_key, TABLE)): table,
    }
    if setup.search:
        keys |= {".".join((*FEATURES, name)): value for name, value in SEARCH_FEATURE.items()}
    return [word for name, v in keys.items() for word in ("-c", f"{name}={toml_value(v)}")]


def _opencode(setup: Setup, given: str | None) -> str:
    """OpenCode's configuration, over one that the environment has already."""
    model = f"{OPENCODE_PROVIDER}/{setup.models[0].id}"
    own: dict[str, Any] = {
        "provider": {OPENCODE_PROVIDER: provider(setup, "responses")},
        "model": model,
        "small_model": model,  # for titles; else OpenCode may ask another provider
    }
    try:
        before = as_object(json.loads(given or "{}")) or {}
    except ValueError:
        before = {}  # OpenCode would refuse it
    return json.dumps(merge(before, own))


def _direct(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables by which a client reaches this machine without the proxy of its environment."""
    if not any(name.lower().endswith("_proxy") and value for name, value in environ.items()):
        return {}
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    direct = ",".join(filter(None, [given, "127.0.0.1"]))
    return {"NO_PROXY": direct, "no_proxy": direct}


def _name(word: str) -> str:
    """The name of a program or package: `/usr/bin/codex.js` and `@openai/codex@0.171` are codex."""
    return _SUFFIX.sub("", re.split(r"[/\\]", word)[-1]).lower()
