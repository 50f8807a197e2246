"""The OpenAPI description of what is there with a store: stored responses, and conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from translator.service.store.pages import ItemList

from .openapi_parts import Schema, answer, operation, path_parameter, query_parameter
from .page_query import DEFAULT_LIMIT, MAX_LIMIT
from .stored_conversations import ChangedConversation, NewConversation, NewItems


class DeletedResponse(Struct, frozen=True):
    """A response that was deleted."""

    id: str
    object: Literal["response"]
    deleted: bool


class Conversation(Struct, frozen=True):
    """A conversation; `created_at` is in seconds since 1970."""

    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"]


class DeletedConversation(Struct, frozen=True):
    """A conversation that was deleted."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: bool


class Item(Struct, frozen=True):
    """An item, with further fields by its type."""

    id: str
    type: str


STRUCTS: tuple[Any, ...] = (
    DeletedResponse,
    Conversation,
    DeletedConversation,
    Item,
    ItemList,
    NewConversation,
    ChangedConversation,
    NewItems,
)
"""What the paths have beside `Response`, in the order that `paths` takes their schemas in."""


def paths(schemas: Sequence[Schema], response: Schema, refusals: Schema) -> dict[str, Schema]:
    """The paths, for the schemas of STRUCTS and that of a response."""
    deleted, conversation, gone, item, listing, new, changed, new_items = schemas
    stream = [
        query_parameter(
            "stream", {"type": "boolean"}, "Its events instead, of one in the background."
        ),
        query_parameter(
            "starting_after", {"type": "integer", "minimum": 0}, "Only events after this one."
        ),
    ]
    found = answer("The response, or its events with `stream`.", response)
    found["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    one, of_items = [path_parameter("id")], [path_parameter("id"), path_parameter("item")]
    return {
        "/v1/responses/{id}": {
            "get": operation(
                "getResponse", "Get a stored response.", None, found, refusals, stream
            ),
            "delete": operation(
                "deleteResponse", "Delete a response.", None, answer("Deleted.", deleted), refusals
            ),
            "parameters": one,
        },
        "/v1/responses/{id}/input_items": {
            "get": operation(
                "listInputItems",
                "List the items that a response saw.",
                None,
                answer("A page of items.", listing),
                refusals,
                _PAGE,
            ),
            "parameters": one,
        },
        "/v1/responses/{id}/cancel": {
            "post": operation(
                "cancelResponse",
                "Cancel a response in the background.",
                None,
                answer("The response, cancelled or at its own end.", response),
                refusals,
            ),
            "parameters": one,
        },
        "/v1/conversations": {
            "post": operation(
                "createConversation",
                "Create a conversation.",
                new,
                answer("The conversation.", conversation),
                refusals,
            )
        },
        "/v1/conversations/{id}": {
            "get": operation(
                "getConversation",
                "Get a conversation.",
                None,
                answer("The conversation.", conversation),
                refusals,
            ),
            "post": operation(
                "changeConversation",
                "Replace the metadata of a conversation.",
                changed,
                answer("The conversation.", conversation),
                refusals,
            ),
            "delete": operation(
                "deleteConversation",
                "Delete a conversation.",
                None,
                answer("Deleted.", gone),
                refusals,
            ),
            "parameters": one,
        },
        "/v1/conversations/{id}/items": {
            "get": operation(
                "listItems",
                "List the items of a conversation.",
                None,
                answer("A page of items.", listing),
                refusals,
                _PAGE,
            ),
            "post": operation(
                "addItems",
                "Add items to a conversation.",
                new_items,
                answer("These items.", listing),
                refusals,
            ),
            "parameters": one,
        },
        "/v1/conversations/{id}/items/{item}": {
            "get": operation("getItem", "Get an item.", None, answer("The item.", item), refusals),
            "delete": operation(
                "deleteItem",
                "Delete an item of a conversation.",
                None,
                answer("The conversation.", conversation),
                refusals,
            ),
            "parameters": of_items,
        },
    }


_PAGE = [
    query_parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Most items of the page.",
    ),
    query_parameter(
        "order", {"enum": ["asc", "desc"], "default": "desc"}, "Oldest or newest first."
    ),
    query_parameter("after", {"type": "string"}, "The id of the item before the page."),
]
