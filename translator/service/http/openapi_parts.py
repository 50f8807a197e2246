"""Parts of an OpenAPI description: operations, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]


def operation(
    name: str,
    summary: str,
    body: Schema | None,
    answered: Schema,
    others: Schema,
    parameters: Sequence[Schema] = (),
) -> Schema:
    """An operation whose answer with status 200 is `answered`; `others` are by their status."""
    made: Schema = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": answered, **others},
    }
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return made


def answer(description: str, schema: Schema) -> Schema:
    """An answer with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def path_parameter(name: str) -> Schema:
    """A parameter in a path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def query_parameter(name: str, schema: Schema, text: str) -> Schema:
    """A parameter of a query."""
    return {"name": name, "in": "query", "schema": schema, "description": text}
