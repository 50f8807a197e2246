"""`[clients]`: who may use the service, with which keys, models and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct

from translator.common.toml import toml_key
from translator.service.base.keys import StoredKey, read_stored

from .sections import CATCH_ALL, named_sections, read_section

_Positive = Annotated[int, Meta(gt=0)]


class ClientSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[clients.NAME]` as it is written. `keys` is required."""

    keys: tuple[str, ...] = ()
    """Stored keys, as `translator key new NAME` prints them; two while one replaces the other."""

    models: tuple[str, ...] | None = None
    """Models that it may use; by default all. `"*"` is every name that has no section of its own,
    where there is `[models."*"]`. With some only, its chat requests may have the fields that OpenAI
    documents, those of the dialect, and those of `forward`."""

    requests_per_minute: _Positive | None = None
    """Its requests per minute; by default any number."""

    tokens_per_minute: _Positive | None = None
    """Its tokens per minute, of requests and responses together; by default any number. Without
    plausible usage of the upstream, a token is taken for four bytes."""

    max_concurrent_requests: _Positive | None = None
    """Most of its requests in progress at once; one more gets a 429."""


class ClientConfig(Struct, frozen=True, kw_only=True):
    """A client: its stored keys and its limits; None is no limit."""

    keys: tuple[StoredKey, ...]
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None


def read_clients(table: Mapping[str, Any], problems: list[str]) -> dict[str, ClientConfig]:
    """The clients of the `[clients]` in the table of all settings, by name."""
    models: object = table.get("models")
    salts: set[str] = set()
    clients: dict[str, ClientConfig] = {}
    for name, value in named_sections(table, "clients", problems).items():
        path = f"clients.{toml_key(name)}"
        section = read_section(ClientSection, value, path, problems, required="keys")
        if section.keys == () and isinstance(value, dict) and "keys" in value:
            problems.append(f"{path}.keys: no key is given; {_key_command(name)} makes one")
        keys = _read_keys(section.keys, name, salts, problems)
        problems += _client_model_problems(section, models, f"{path}.models")
        fields = msgspec.structs.asdict(section)
        fields["keys"] = keys
        clients[name] = ClientConfig(**fields)
    if table.get("clients") == {}:
        problems.append("clients: no client is given; without this section requests need no key")
    return clients


def _client_model_problems(section: ClientSection, models: object, path: str) -> list[str]:
    """Problems of the models that a client may use; `models` is the table of all."""
    problems: list[str] = []
    listed = cast("dict[str, object]", models) if isinstance(models, dict) else None
    for model in section.models or ():
        if model == CATCH_ALL and model not in (listed or ()):
            problems.append(
                f'{path}: "*" needs a section [models."*"]; for all models, leave it out'
            )
        elif listed is not None and model not in listed:
            problems.append(f'{path}: there is no model "{model}"')
        elif CATCH_ALL in model and model != CATCH_ALL:
            problems.append(f'{path}: "{model}" is no pattern, and no name of a model')
    return problems


def _key_command(client: str) -> str:
    """The command that makes a key for a client."""
    from translator.program.invocation import program

    return f"{program()} key new {client}"


def _read_keys(
    texts: tuple[str, ...], client: str, salts: set[str], problems: list[str]
) -> tuple[StoredKey, ...]:
    """The stored keys of a client; `salts` are those of all keys before, and must not repeat."""
    keys: list[StoredKey] = []
    for index, text in enumerate(texts):
        path = f"clients.{toml_key(client)}.keys[{index}]"
        key = read_stored(text)
        if key is None:
            problems.append(f"{path}: is not what {_key_command(client)} prints")
        elif key.salt in salts:
            problems.append(f"{path}: is a key that was given before")
        else:
            salts.add(key.salt)
            keys.append(key)
    return tuple(keys)
