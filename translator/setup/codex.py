"""What stands in Codex's folder so that it uses this service.

    folder = config.toml, { NAME.config.toml }, model_catalog.json ;

`config.toml` gets the provider; each model gets a profile, which Codex reads from a file of its
own when it is started with `--profile NAME`. The catalog is named in the profiles, and in
`config.toml` only for a default of ours: there it stands in place of Codex's own for all providers.

What is in these files already is kept, with its comments and its order. Only our own keys change,
and where all of them are as they should be, the text stays the same letter for letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from translator.service.config.settings import SettingsError
from translator.service.models.codex_catalog import Entry, Known, entries
from translator.wire.json_values import as_list, as_object

from .client import Setup
from .toml_text import NotKept, Value, read, with_keys, with_table

PROVIDER = "translator"
CONFIG = "config.toml"
CATALOG = "model_catalog.json"
TABLE = ("model_providers", PROVIDER)

_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


def profile_file(profile: str) -> str:
    return f"{profile}.config.toml"


def provider_keys(setup: Setup) -> dict[str, Value]:
    """`[model_providers.translator]`."""
    return {
        "name": "translator",
        "base_url": setup.base_url,
        "wire_api": "responses",
        "env_key": setup.key_env,
        "supports_websockets": setup.websocket or None,
    }


def profile_keys(model: Known) -> dict[str, Value]:
    """What chooses a model: the keys of its profile, or of `config.toml` for the default."""
    keys: dict[str, Value] = {
        "model": model.id,
        "model_provider": PROVIDER,
        "model_catalog_json": CATALOG,
    }
    if model.hosted_tools_refused:
        # Codex offers this tool unasked, and the service would refuse every request.
        keys["web_search"] = "disabled"
    return keys


def plain_config(*, base_url: str, model: str, key_env: str) -> str:
    """The least that Codex needs, without profiles and without a catalog: for people to copy."""
    setup = Setup(base_url=base_url, models=(), key_env=key_env, websocket=False)
    keys: dict[str, Value] = {"model": model, "model_provider": PROVIDER}
    return with_table(with_keys("", keys), TABLE, provider_keys(setup))


class Folder:
    """What Codex's folder holds, as far as it matters here, and what it is to hold.

    `texts` are its files by name, and may hold any others. Raises SettingsError for a file that
    cannot be kept because it cannot be read.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._config = self._values(CONFIG)
        legacy = as_object(self._config.get("profiles")) or {}
        # Codex refuses a profile that its configuration speaks of in the old way.
        self._taken = {*legacy, self._config.get("profile")}

    @property
    def key_env(self) -> str | None:
        """The variable that holds the key, as an earlier run or a person wrote it."""
        providers = as_object(self._config.get(TABLE[0])) or {}
        name = (as_object(providers.get(PROVIDER)) or {}).get("env_key")
        return name if isinstance(name, str) else None

    def default(self, models: Sequence[Known], asked: str | None) -> Known | None:
        """The model that Codex is to use without a profile; None: as it is.

        That is the one asked for, else the one that already is, if it is ours; a folder without a
        configuration gets the first.
        """
        if asked is None and self._config.get("model_provider") == PROVIDER:
            asked = self._config.get("model")
        elif asked is None and CONFIG not in self._texts:
            return models[0]
        return next((model for model in models if model.id == asked), None)

    def profiles(self, models: Sequence[Known]) -> dict[str, Known]:
        """A profile's name for each model: its id's last part, or as much as makes it unique."""
        names: dict[str, Known] = {}
        for model in models:
            free = (name for name in _names(model.id) if name not in names)
            names[next(name for name in free if self._is_for(name, model))] = model
        return names

    def _is_for(self, name: str, model: Known) -> bool:
        """Whether a model's profile may have this name: nobody has it, or it has it already."""
        if name in self._taken:
            return False
        file = profile_file(name)
        if file not in self._texts:
            return True
        profile = self._values(file)
        return (profile.get("model_provider"), profile.get("model")) == (PROVIDER, model.id)

    def files(self, setup: Setup, default: Known | None) -> dict[str, str]:
        """The new text of each file, by name. What the others refer to comes last."""
        config = self._with(CONFIG, profile_keys(default) if default else {})
        with _told_for(CONFIG):
            new = {CONFIG: with_table(config, TABLE, provider_keys(setup))}
        for name, model in self.profiles(setup.models).items():
            file = profile_file(name)
            new[file] = self._with(file, profile_keys(model))
        return new | {CATALOG: _with_entries(self._texts.get(CATALOG), entries(setup.models))}

    def _values(self, file: str) -> dict[str, Any]:
        with _told_for(file):
            return read(self._texts.get(file, ""))

    def _with(self, file: str, keys: Mapping[str, Value]) -> str:
        with _told_for(file):
            return with_keys(self._texts.get(file, ""), keys)


@contextmanager
def _told_for(file: str) -> Generator[None]:
    """For what raises NotKept: it becomes a SettingsError that names the file."""
    try:
        yield
    except NotKept as error:
        raise SettingsError([f"{file}: {error}"]) from None


def _names(model: str) -> Iterator[str]:
    """Names for a model's profile, the best first; Codex takes letters, digits, `-` and `_`."""
    short = _UNFIT.sub("-", model.rpartition("/")[2]).strip("-") or "model"
    whole = _UNFIT.sub("-", model).strip("-") or "model"
    yield from (short, whole, f"{PROVIDER}-{whole}")
    number = 2
    while True:
        yield f"{PROVIDER}-{whole}-{number}"
        number += 1


def _with_entries(text: str | None, new: Sequence[Entry]) -> str:
    """A catalog with these models in it, each in the place of its namesake or at the end."""
    catalog: dict[str, Any] | None = {"models": []}
    if text is not None:
        try:
            catalog = as_object(json.loads(text))
        except ValueError as error:
            raise SettingsError([f"{CATALOG} is not JSON: {error}"]) from None
    models = as_list((catalog or {}).get("models"))
    if catalog is None or models is None:
        raise SettingsError([f"{CATALOG} is not a catalog: it has no list of models"])
    kept = {_slug(model, place): model for place, model in enumerate(models)}
    ours = {entry.slug: cast("dict[str, Any]", msgspec.to_builtins(entry)) for entry in new}
    merged = catalog | {"models": [*(kept | ours).values()]}
    if text is not None and merged == catalog:
        return text
    return json.dumps(merged, indent=2, ensure_ascii=False) + "\n"


def _slug(model: object, place: int) -> str | int:
    """What tells a model of a catalog apart: its slug, else where it stands."""
    slug = (as_object(model) or {}).get("slug")
    return slug if isinstance(slug, str) else place
