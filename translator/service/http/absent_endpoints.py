"""Absent endpoints: paths of known APIs that are not served here, and what to do about each.

    path, why  ──►  404 with a sentence, for every method

One table. A path is known with and without `/v1`, as the others are. What stands in no row is an
unknown path. Sources: the OpenAPI description of OpenAI (2026-08), the program of Codex CLI 0.171.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import chain

from msgspec import Struct
from starlette.routing import compile_path

from translator.wire.errors import NotFound

_STORED = (
    "Responses are not stored here: the service keeps nothing between two requests. Send the whole"
    " conversation as `input` and set `store` to false; on a WebSocket, `previous_response_id`"
    " continues the responses of that connection."
)
_CONVERSATIONS = (
    "Conversations are not stored here. Leave `conversation` out, and send all of the conversation"
    " as `input` of each request."
)
_CHATS = "Chat completions are not stored here. Leave `store` out, and keep what you need yourself."
_FILES = (
    "Files are not stored here. Send what is in them with the request: as `file_data` of an"
    " `input_file`, or as a data URL in `image_url` of an `input_image`."
)
_IMAGES = (
    "Images are not made here: the models behind this service write text. For images, set the base"
    " URL of a service that makes them."
)
_AUDIO = (
    "Speech is neither made nor understood at this endpoint: the models behind this service write"
    " text. Set the base URL of a service for audio; a model that hears takes `input_audio` parts."
)
_REALTIME = (
    "Realtime sessions are not served here. Use POST /v1/responses with `stream`, or a WebSocket at"
    " GET /v1/responses."
)
_SEARCH = (
    'Web search is not configured on this server. In Codex, set `web_search = "disabled"` in'
    " config.toml; go on without a search."
)
_MEMORIES = (
    "Memories are not kept here. In Codex, set `memories = false` under [features] in config.toml;"
    " newer versions write theirs by requests to /v1/responses, for which the model that they name"
    ' must be served: by a section [models."*"] in the settings.'
)
_CHATGPT = (
    "This is a path of ChatGPT's own backend, which is not served here. In Codex, set `base_url` to"
    " this service's address with /v1 under [model_providers.NAME], and leave out"
    " `chatgpt_base_url`."
)
_CODEX = (
    "Codex's own services are not here, only its models. Leave the feature that asks for this off."
)
_LEGACY = (
    "Text completions without messages are not served here. Use POST /v1/chat/completions, or"
    " POST /v1/responses."
)
_MESSAGES = (
    "This is Anthropic's Messages API, which is not served here. Use POST /v1/responses, or"
    " POST /v1/chat/completions."
)
_OTHER_MODELS = (
    "Only text is generated here. Send this request to the upstream itself, or set the base URL of"
    " a service that has such models."
)
_PLATFORM = (
    "This is a service of OpenAI's platform, not of a model, and is not here. Send the requests one"
    " by one to POST /v1/responses, or set OpenAI's own base URL for this."
)
_BASE_URL = (
    "The base URL ends too late: a client appends the endpoint to it itself. Set one that ends in"
    " /v1."
)


class Absent(Struct, frozen=True):
    """One row: the path of an endpoint without `/v1`, in the terms of Starlette; and why."""

    path: str
    why: str


def _rows(why: str, *paths: str) -> Iterable[Absent]:
    return (Absent(path, why) for path in paths)


ABSENT = tuple(
    chain(
        _rows(
            _BASE_URL,
            "/responses/responses",
            "/responses/models",
            "/responses/chat/completions",
            "/chat/completions/responses",
            "/chat/completions/models",
            "/chat/completions/chat/completions",
            "/v1/{rest:path}",
        ),
        _rows(
            _STORED,
            "/responses/{id}",
            "/responses/{id}/cancel",
            "/responses/{id}/input_items",
        ),
        _rows(
            _CONVERSATIONS,
            "/conversations",
            "/conversations/{id}",
            "/conversations/{id}/items",
            "/conversations/{id}/items/{item}",
        ),
        _rows(
            _CHATS,
            "/chat/completions/{id}",
            "/chat/completions/{id}/messages",
        ),
        _rows(
            _FILES,
            "/files",
            "/files/{id}",
            "/files/{id}/content",
            "/files/{id}/uploaded",
            "/uploads",
            "/uploads/{id}/{step}",
            "/vector_stores",
            "/vector_stores/{rest:path}",
            "/containers",
            "/containers/{rest:path}",
        ),
        _rows(_IMAGES, "/images", "/images/{rest:path}"),
        _rows(_AUDIO, "/audio", "/audio/{rest:path}"),
        _rows(_REALTIME, "/realtime", "/realtime/{rest:path}", "/live"),
        _rows(_SEARCH, "/alpha/search"),
        _rows(_MEMORIES, "/memories", "/memories/{rest:path}"),
        _rows(_CODEX, "/alpha/{rest:path}", "/analytics/{rest:path}", "/plugins/{rest:path}"),
        _rows(
            _CHATGPT,
            "/backend-api",
            "/backend-api/{rest:path}",
            "/api/codex",
            "/api/codex/{rest:path}",
            "/wham",
            "/wham/{rest:path}",
            "/codex/{rest:path}",
            "/connectors/{rest:path}",
        ),
        _rows(_LEGACY, "/completions"),
        _rows(_MESSAGES, "/messages", "/messages/{rest:path}"),
        _rows(
            _OTHER_MODELS,
            "/embeddings",
            "/moderations",
            "/rerank",
            "/videos",
            "/videos/{rest:path}",
        ),
        _rows(
            _PLATFORM,
            "/batches",
            "/batches/{id}",
            "/batches/{id}/cancel",
            *(
                row
                for name in (
                    "assistants chatkit evals fine_tuning graders organization projects skills"
                    " threads"
                ).split()
                for row in (f"/{name}", f"/{name}/{{rest:path}}")
            ),
        ),
    )
)


def _first_part(path: str) -> str:
    """What stands before the second slash; a pattern's end matches before a last line feed, too."""
    return path.removesuffix("\n").split("/", 2)[1] if path.startswith("/") else ""


_ROWS: dict[str, list[Absent]] = {}
"""The rows by the first part of their paths, which is a word in all of them."""
for _row in ABSENT:
    _ROWS.setdefault(_first_part(_row.path), []).append(_row)


def absent_error(method: str, path: str) -> NotFound | None:
    """The error of a request at a path of the table; None for another path."""
    inner = path.removeprefix("/v1") if path.startswith("/v1/") else path
    for row in _ROWS.get(_first_part(inner), ()):
        if _pattern(row.path).match(inner):
            message = f"{method} {path[:200]}: {row.why}"
            return NotFound(message, param=None, code="unsupported_endpoint")
    return None


def unknown_path(method: str, path: str, meant: str | None = None) -> NotFound:
    """The error of a path that nobody knows; `meant` is the one that the client may mean."""
    message = f"Unknown path: {method} {path[:200]}."
    if meant is not None:
        message += f" Did you mean {meant}?"
    return NotFound(message, param=None, code="unknown_path")


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """The pattern of a row, compiled when it is first needed: few rows ever are."""
    return compile_path(path)[0]
