"""Text of strangers, made harmless before a model reads it.

    text = what was found, without control and bidi characters, and with broken chat marks

A page can hold the marks by which chat templates tell one message from the next; servers that
render text without escaping would take them for the real ones. A zero-width joiner within breaks
them and leaves the text readable.
"""

from __future__ import annotations

import re

_JOINER = "\u200d"
_REMOVED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
"""Control characters but for tab and line feed; marks of direction; halves of characters; what
has no width, but for the joiners that scripts and emoji need."""

_MARKS = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>"
    r"|<(?=/?(?:think|thinking|tool_calls?|tool_response|tool_result|tools|function_calls?"
    r"|function_results?|function(?==)|parameter|invoke|arg_key|arg_value|start_of_\w{1,40}"
    r"|end_of_\w{1,40}|system|assistant|user|human|bos|eos|unk|pad|mask|unused_?\d{1,6}|im_start"
    r"|im_end|antml|minimax|sys|s)\b)"
    # a namespace before any of those for calls
    r"|<(?=/?\w{1,40}:(?:think|tool_call|function_call|invoke|parameter))"
    r"|\[(?=/?(?:inst|sys|tool_calls|tool_results|available_tools|system_prompt|model_settings|think"
    r"|(?-i:TOOL_CONTENT|ARGS|CALL_ID))\])",
    re.IGNORECASE,
)


def harmless(text: str) -> str:
    """The text without what is not to be seen, and with broken chat marks."""
    return _MARKS.sub(_broken, _REMOVED.sub("", text))


def one_line(text: str, limit: int) -> str:
    """The same in one line, cut at a limit in characters."""
    line = " ".join(harmless(text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def _broken(mark: re.Match[str]) -> str:
    return f"{_JOINER}>" if mark[0] == ">" else f"{mark[0]}{_JOINER}"
