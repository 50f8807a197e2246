"""Request fields without a counterpart in Chat Completions: refused, or ignored with a notice."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from msgspec import UNSET, Struct, UnsetType

from translator.common.invalid import decode_at
from translator.wire import responses
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import present
from translator.wire.notices import Notice


def refuse_unsupported(
    request: responses.Request,
    *,
    previous_known: bool,
    runs_in_background: bool = False,
    conversation_known: bool = False,
) -> None:
    """Raise InvalidRequest for a field that needs a store or a server-side run.

    `previous_known`: the items of the previous response are at hand. `runs_in_background`: a
    response may be produced in the background. `conversation_known`: those of the conversation are.
    """
    if request.previous_response_id is not None and not previous_known:
        if not isinstance(request.conversation, UnsetType):
            raise InvalidRequest(
                "'previous_response_id' and 'conversation' cannot be given together.",
                param="previous_response_id",
                code="invalid_value",
            )
        raise InvalidRequest(
            f"Previous response with id '{request.previous_response_id}' not found. "
            "Responses are not stored here; send the whole conversation as input.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if present(request.conversation) and not conversation_known:
        raise _unsupported("conversation", "Conversations are not stored here.")
    if request.background and not runs_in_background:
        raise _unsupported(
            "background",
            "A response runs in the background only where it is stored, and none is stored here.",
        )
    if request.background and _window(request) not in (None, "soonest"):
        raise InvalidRequest(
            "A response in the background begins at once: 'soonest' is the only window.",
            param="background_options.completion_window",
            code="unsupported_value",
        )
    if present(request.prompt):
        raise _unsupported("prompt", "Prompts are not stored here.")
    if request.n is not None and request.n != 1:
        raise _unsupported("n", "A request gets exactly one answer.")
    if request.moderation and _blocks(request.moderation):
        raise _unsupported("moderation", "Content cannot be blocked here.")


class _BackgroundOptions(Struct, frozen=True):
    completion_window: str | None = None


def _window(request: responses.Request) -> str | None:
    """The completion window that is asked for; raises InvalidRequest."""
    options = request.background_options
    if isinstance(options, UnsetType) or not present(options):
        return None
    return decode_at(options, _BackgroundOptions, "background_options").completion_window


def _unsupported(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{param}'. {why}", param=param, code="unsupported_parameter"
    )


def _blocks(moderation: responses.Moderation) -> bool:
    return not isinstance(moderation.policy, UnsetType) and b'"block"' in bytes(moderation.policy)


_IGNORED = {
    "stream_options": "Events are not padded.",
    "background_options": "Responses do not run in the background here.",
    "context_management": "Context is compacted only on request, by a compaction_trigger item.",
    "moderation": "Content is not moderated here.",
    "prompt_cache_options": "The upstream's cache cannot be controlled.",
    "access_programs": "Access programs are not available here.",
    "image": "Images are forwarded unchanged.",
    "client_metadata": "Client metadata is not sent upstream.",
}
_values_of_ignored = attrgetter(*_IGNORED)
_NONE_IGNORED = _values_of_ignored(responses.Request())


def ignored(
    request: responses.Request, *, has_store: bool = False, searches: bool = False
) -> Iterator[Notice]:
    """A notice for each field that has no effect and is not repeated in the response.

    `has_store`: there is a store, which says itself what it does not keep. `searches`: the search
    of the web runs here.
    """
    if _values_of_ignored(request) != _NONE_IGNORED:
        yield from _ignored_values(request)
    if request.store and not has_store:
        yield Notice("store", "ignored", "Responses are not stored here.")
    if request.truncation == "auto":
        yield Notice("truncation", "ignored", "The input is never truncated here.")
    for index, name in enumerate(request.include or ()):
        if name in (responses.INCLUDE_SOURCES, responses.INCLUDE_RESULTS) and searches:
            continue
        if name not in (responses.INCLUDE_LOGPROBS, responses.INCLUDE_REASONING):
            yield Notice(f"include[{index}]", "ignored", f"'{name}' is not available here.")


def _ignored_values(request: responses.Request) -> Iterator[Notice]:
    for name, why in _IGNORED.items():
        value = getattr(request, name)
        if name == "background_options" and request.background:
            continue  # it is checked
        if value is not None and value is not UNSET:
            yield Notice(name, "ignored", why)
