"""Codex configuration: the files in Codex's folder that make it use this service.

    folder = config.toml, { NAME.config.toml }, model_catalog.json ;

`config.toml` gets the provider. Each model gets a profile in a file of its own, which Codex reads
when it is started with `--profile NAME`. The profiles refer to the catalog; `config.toml` does so
only when the default model is ours, since there it replaces Codex's own catalog for all providers.

Existing content is kept, with its comments and its order. Only our own keys change, and a file
whose keys are right already stays the same byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import Any, cast

import msgspec

from translator.service.config.settings import SettingsError
from translator.service.models.codex_catalog import CatalogEntry, catalog_entries
from translator.service.models.info import ModelInfo
from translator.wire.json_values import as_list, as_object

from .client import Setup
from .json_members import with_elements
from .toml_text import CannotEdit, Value, read, with_keys, with_table
from .undo import Kind

PROVIDER = "translator"
CONFIG = "config.toml"
CATALOG = "model_catalog.json"
TABLE = ("model_providers", PROVIDER)
NEEDED: Mapping[tuple[str, ...], str] = {TABLE: "name"}
"""What a provider must have: without a name, Codex does not start."""

FEATURES = ("features",)
SEARCH_FEATURE: Mapping[str, Value] = {"standalone_web_search": True}
"""With it, Codex has its model search by requests of their own (`POST /v1/alpha/search`), for a
provider that supports them; others are asked as without it."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def profile_file(profile: str) -> str:
    return f"{profile}.config.toml"


def kind_of(file: str) -> Kind:
    """What one of the files holds, for the record of what was written."""
    return "catalog" if file == CATALOG else "toml"


def catalog_of(texts: Iterable[str]) -> str | None:
    """The catalog, where one of these texts refers to it: without it, Codex does not start."""
    for text in texts:
        with suppress(CannotEdit):
            name = read(text).get("model_catalog_json")
            if isinstance(name, str) and PurePath(name).name == CATALOG:
                return CATALOG
    return None


def provider_keys(setup: Setup) -> dict[str, Value]:
    """`[model_providers.translator]`."""
    return {
        "name": "translator",
        "base_url": setup.base_url,
        "wire_api": "responses",
        "env_key": setup.key_env,
        "supports_websockets": setup.websocket or None,
        "supports_standalone_web_search": setup.search or None,
    }


def profile_keys(model: ModelInfo, *, search: bool = False) -> dict[str, Value]:
    """The keys that select a model, in its profile or, for the default, in `config.toml`.

    `search`: the service has a search of its own.
    """
    keys: dict[str, Value] = {
        "model": model.id,
        "model_provider": PROVIDER,
        "model_catalog_json": CATALOG,
    }
    if model.rejects_hosted_tools and not search:
        # Codex declares this tool by default, and the service would reject every request.
        keys["web_search"] = "disabled"
    return keys


class Folder:
    """Codex's folder, and its new files.

    `texts` are its files by name; others than ours are ignored. Raises SettingsError for a file
    that cannot be parsed, and so cannot be edited.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._config = self._values(CONFIG)
        legacy = as_object(self._config.get("profiles")) or {}
        # Codex rejects a profile that `config.toml` defines in the old way, too.
        self._taken = {*legacy, self._config.get("profile")}

    @property
    def key_env(self) -> str | None:
        """The environment variable of the key in the existing configuration."""
        providers = as_object(self._config.get(TABLE[0])) or {}
        name = (as_object(providers.get(PROVIDER)) or {}).get("env_key")
        return name if isinstance(name, str) else None

    def default(self, models: Sequence[ModelInfo], asked: str | None) -> ModelInfo | None:
        """The model for Codex without a profile; None: leave it as it is.

        That is the one asked for, else the current one, if it is ours; a folder without a
        configuration gets the first.
        """
        if asked is None and self._config.get("model_provider") == PROVIDER:
            asked = self._config.get("model")
        elif asked is None and CONFIG not in self._texts:
            return models[0]
        return next((model for model in models if model.id == asked), None)

    def profiles(self, models: Sequence[ModelInfo]) -> dict[str, ModelInfo]:
        """The model of each profile, by name: the last part of its id, or as much as is unique."""
        names: dict[str, ModelInfo] = {}
        for model in models:
            free = (name for name in _names(model.id) if name not in names)
            names[next(name for name in free if self._may_name(name, model))] = model
        return names

    def _may_name(self, name: str, model: ModelInfo) -> bool:
        """Whether the profile of a model may have this name: it is free, or the model's already."""
        if name in self._taken:
            return False
        file = profile_file(name)
        if file not in self._texts:
            return True
        profile = self._values(file)
        return (profile.get("model_provider"), profile.get("model")) == (PROVIDER, model.id)

    def files(self, setup: Setup, default: ModelInfo | None) -> dict[str, str]:
        """The new text of each file, by name; a file comes after those that refer to it."""
        config = self._with(CONFIG, profile_keys(default, search=setup.search) if default else {})
        with _errors_of(CONFIG):
            config = with_table(config, TABLE, provider_keys(setup))
            if setup.search:
                config = with_table(config, FEATURES, SEARCH_FEATURE)
            new = {CONFIG: config}
        for name, model in self.profiles(setup.models).items():
            file = profile_file(name)
            new[file] = self._with(file, profile_keys(model, search=setup.search))
        return new | {
            CATALOG: _with_entries(self._texts.get(CATALOG), catalog_entries(setup.models))
        }

    def _values(self, file: str) -> dict[str, Any]:
        with _errors_of(file):
            return read(self._texts.get(file, ""))

    def _with(self, file: str, keys: Mapping[str, Value]) -> str:
        with _errors_of(file):
            return with_keys(self._texts.get(file, ""), keys)


@contextmanager
def _errors_of(file: str) -> Generator[None]:
    """Turn CannotEdit into a SettingsError that names the file."""
    try:
        yield
    except CannotEdit as error:
        raise SettingsError([f"{file}: {error}"]) from None


def _names(model: str) -> Iterator[str]:
    """Names for a model's profile, the best first; Codex allows letters, digits, `-` and `_`."""
    short = _NOT_IN_NAMES.sub("-", model.rpartition("/")[2]).strip("-") or "model"
    whole = _NOT_IN_NAMES.sub("-", model).strip("-") or "model"
    yield from (short, whole, f"{PROVIDER}-{whole}")
    number = 2
    while True:
        yield f"{PROVIDER}-{whole}-{number}"
        number += 1


def _with_entries(text: str | None, new: Sequence[CatalogEntry]) -> str:
    """The catalog with these entries, each in place of the one with its slug, else at the end."""
    catalog: dict[str, Any] | None = {"models": []}
    if text is not None:
        try:
            catalog = as_object(json.loads(text))
        except ValueError as error:
            raise SettingsError([f"{CATALOG} is not JSON: {error}"]) from None
    models = as_list((catalog or {}).get("models"))
    if catalog is None or models is None:
        raise SettingsError([f"{CATALOG} is not a catalog: it has no list of models"])
    slugs = {str((as_object(model) or {}).get("slug")): at for at, model in enumerate(models)}
    changed: dict[int | None, list[Any]] = {None: []}
    for entry in new:
        ours, at = cast("dict[str, Any]", msgspec.to_builtins(entry)), slugs.get(entry.slug)
        if at is None or models[at] != ours:
            changed.setdefault(at, []).append(ours)
    if text is None:
        return json.dumps({"models": changed[None]}, indent=2, ensure_ascii=False) + "\n"
    return with_elements(text, "models", changed)
