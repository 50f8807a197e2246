"""Connect: set-ups of clients for this service, what its API takes, and what its errors mean."""

from __future__ import annotations

import json

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.page.snippets import Snippet, Target, snippets

from .offers import chosen, offers_of, usable_keys
from .visit import View, Visit

KEY_ENV = "TRANSLATOR_API_KEY"
"""The environment variable of the key in the set-ups."""

PLACEHOLDER = "MODEL"
"""The model of the set-ups while a key has none."""

CLIENTS = ("curl", "python", "node", "codex", "opencode")
"""The clients that the page sets up; there are more on the page at `/` and in the docs."""

MAX_PROFILES = 20
"""Most models that have a profile of Codex."""


class Profile(Struct, frozen=True):
    """A profile of Codex: a file beside its configuration, for one model."""

    name: str
    text: str


def connect(visit: Visit, connection: Connection) -> View:
    keys = usable_keys(visit, connection)
    key = chosen(visit, keys)
    offered = [] if key is None else offers_of(visit, connection, key)
    models = [one.model for one in offered if one.model.isprintable()]
    model = visit.request.query.get("model", "")
    if model not in models:
        model = models[0] if models else ""
    target = Target(base_url=visit.base_url, model=model or PLACEHOLDER, key_env=KEY_ENV)
    return visit.page(
        "connect",
        "Connect",
        keys=keys,
        key=key,
        models=models,
        model=model,
        base_url=visit.base_url,
        key_env=KEY_ENV,
        snippets=_chosen(snippets(target)),
        profiles=[Profile(*one) for one in profiles(models).items()],
        example=_example(model or PLACEHOLDER),
    )


def _chosen(found: list[Snippet]) -> list[Snippet]:
    by_id = {one.id: one for one in found}
    return [by_id[name] for name in CLIENTS]


def profiles(models: list[str]) -> dict[str, str]:
    """The profiles of Codex for some models, by name: the last part of an id, or all of it."""
    found: dict[str, str] = {}
    for model in models[:MAX_PROFILES]:
        last = _plain(model.rpartition("/")[2])
        name = last if last and last not in found else _plain(model)
        if name and name not in found:
            quoted = json.dumps(model, ensure_ascii=False)
            found[name] = f'model = {quoted}\nmodel_provider = "translator"'
    return found


def _plain(text: str) -> str:
    """A text as part of a file's name."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "-" for one in text)


def _example(model: str) -> str:
    """A response as the API gives it, shortened."""
    return json.dumps(
        {
            "id": "resp_…",
            "object": "response",
            "status": "completed",
            "model": model,
            "output": [
                {
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Hello!", "annotations": []}],
                }
            ],
            "usage": {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 12,
            },
        },
        indent=2,
        ensure_ascii=False,
    )
