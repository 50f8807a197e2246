"""Parameters of functions that stand for tools without any of their own."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

INPUT_ARGUMENT = "input"
"""The only argument of a function that represents a custom tool."""

NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
INPUT_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {INPUT_ARGUMENT: {"type": "string", "description": "The raw text."}},
            "required": [INPUT_ARGUMENT],
            "additionalProperties": False,
        }
    )
)
_STRINGS = {"type": "array", "items": {"type": "string"}}
LOCAL_SHELL_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "command": {**_STRINGS, "description": "The command and its arguments."},
                "working_directory": {"type": "string"},
                "timeout_ms": {"type": "integer", "description": "Milliseconds."},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["command"],
            "additionalProperties": False,
        }
    )
)
SHELL_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "commands": {**_STRINGS, "description": "Shell commands, run one by one."},
                "timeout_ms": {"type": "integer", "description": "Milliseconds per command."},
                "max_output_length": {"type": "integer", "description": "Characters."},
            },
            "required": ["commands"],
            "additionalProperties": False,
        }
    )
)
APPLY_PATCH_PARAMETERS = Raw(
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": {"type": "string"},
                "diff": {"type": "string", "description": "V4A diff; not for delete_file."},
            },
            "required": ["type", "path"],
            "additionalProperties": False,
        }
    )
)


class FreeFormTool(Struct, frozen=True):
    """A tool of the type custom, which takes free-form text."""

    name: str
    description: str | None = None
    format: _Format | None = None

    @property
    def whole_description(self) -> str:
        """Its description as a function, which says how to write the text."""
        lines = [self.description] if self.description else []
        lines.append(
            f"Put the raw text into the argument `{INPUT_ARGUMENT}`, as it is: "
            "not as JSON, not in a code fence."
        )
        if self.format and self.format.type == "grammar" and self.format.definition:
            lines.append(
                f"The text must match this {self.format.syntax or ''} grammar:\n"
                f"{self.format.definition}"
            )
        return "\n\n".join(lines)


class _Format(Struct, frozen=True):
    type: str = "text"
    syntax: str | None = None
    definition: str | None = None
