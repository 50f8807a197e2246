"""Payloads of the probe's requests: messages, tools, schemas and parameters, as data.

Every request is small, and the reply shows whether a field had an effect. So a request asks for
something the model would not do by itself (a number of zebras in an answer about a capital), or for
something it would do at once (look up the weather) while a field forbids it.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Collection
from typing import Any

from msgspec import Struct

Fields = dict[str, Any]

MAX_TOKENS = 1024
"""The limit of each reply, in tokens. The answers need a few dozen; models that always think need
several hundred before them, and some upstreams reject a lower limit."""

FEW_TOKENS = 16
"""A limit that truncates the reply to `COUNTING`, in tokens."""


class ProbeRequest(Struct, frozen=True):
    """One chat request, and the name of what it tests.

    `whole`: the reply is read to its end; otherwise only until its first output, which shows that
    the request was accepted.
    """

    topic: str
    body: Fields
    whole: bool = True


def user(text: str) -> Fields:
    return {"role": "user", "content": text}


def system(text: str) -> Fields:
    return {"role": "system", "content": text}


ARITHMETIC = [user("What is 17 times 23? Work it out, then answer with the number only.")]
GREETING = [user("Say hello.")]
COUNTING = [user("Count from 1 to 60 in English words, one number on each line.")]
MANY_CHARACTERS = 200
"""A longer reply to `COUNTING` ignored the limit of `FEW_TOKENS`."""

# --- roles ----------------------------------------------------------------------------------------

PASSWORD = "PINEAPPLE"  # no secret: sent to every upstream  # nosec B105
DEVELOPER = [
    {
        "role": "developer",
        "content": f"Whatever you are asked, answer with the single word {PASSWORD}.",
    },
    user("How are you?"),
]


def system_messages(where: Collection[str]) -> list[Fields]:
    """Messages with a second `leading` system message, a `later` one, or both."""
    messages = [system("You answer briefly.")]
    if "leading" in where:
        messages.append(system("You are polite."))
    messages += [user("Hello."), {"role": "assistant", "content": "Hello."}]
    if "later" in where:
        messages.append(system("The user is in a hurry."))
    return [*messages, *GREETING]


# --- structured output ----------------------------------------------------------------------------

CAPITAL = [user("What is the capital of France?")]
CAPITAL_WITHOUT_TOOLS = [user("What is the capital of France? Use no tool.")]
SCHEMA_KEY = "zebras"
JSON_SCHEMA: Fields = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, SCHEMA_KEY: {"type": "integer"}},
            "required": ["city", SCHEMA_KEY],
            "additionalProperties": False,
        },
    },
}
# Some upstreams reject `json_object` when no message contains the word JSON.
NOT_ABOUT_JSON = [user("Say hello. (That JSON is mentioned here has no meaning.)")]
JSON_OBJECT: Fields = {"type": "json_object"}

# --- tools ----------------------------------------------------------------------------------------

TOOL = "get_weather"
WEATHER = [
    user(
        "What is the weather in Paris, and what is it in Oslo? Look both up with the tool, "
        "in two calls at once."
    )
]


def tool(features: Collection[str] = ()) -> Fields:
    """The tool, with features that some upstreams reject: `strict`, `type list`, `$schema`."""
    city: Fields = {"type": ["string", "null"] if "type list" in features else "string"}
    parameters: Fields = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    if "$schema" in features:
        parameters = {"$schema": "http://json-schema.org/draft-07/schema#", **parameters}
    function: Fields = {
        "name": TOOL,
        "description": "Tells the weather in a city.",
        "parameters": parameters,
    }
    if "strict" in features:
        parameters["additionalProperties"] = False
        function["strict"] = True
    return {"type": "function", "function": function}


TOOLS = [tool()]
NAMED = {"type": "function", "function": {"name": TOOL}}
NO_SUCH_CHOICE = "translator_probe"

# --- history --------------------------------------------------------------------------------------

REASONING = (
    "The user wants to know the weather in Paris, which changes from hour to hour, so memory is of "
    "no use and it has to be looked up. There is a tool for that, it takes the name of a city, and "
    "one call will do, because only a single city was named in the question."
)
MIN_REASONING_TOKENS = 25
"""`REASONING` has about sixty tokens: a prompt that grows by fewer does not contain it."""

ORDINARY_ID = "call_translator_probe_1"
NINE_CHARACTERS = "probe0001"
DETAILS = [{"type": "reasoning.text", "text": "It has to be looked up.", "index": 0}]
SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def history(features: Collection[str], **assistant: Any) -> list[Fields]:  # noqa: ANN401 - JSON
    """A conversation with a tool call, using features that Chat Completions allows.

    `id`: a call id of any format. `user`: a user message directly after the tool message. `bare`: a
    call without `content`. `unreasoned`: a call without reasoning. `unsigned`: a call without a
    signature. `assistant` holds more fields of the message with the call.
    """
    call_id = ORDINARY_ID if "id" in features else NINE_CHARACTERS
    function = {"name": TOOL, "arguments": '{"city": "Paris"}'}
    call: Fields = {"id": call_id, "type": "function", "function": function}
    if "unsigned" not in features:
        call["extra_content"] = SIGNATURE
    calling: Fields = {"role": "assistant", "tool_calls": [call]}
    if "bare" not in features:
        calling["content"] = ""
    if "unreasoned" not in features:
        calling["reasoning_content"] = REASONING
    between = [] if "user" in features else [{"role": "assistant", "content": "It is mild."}]
    return [
        user("What is the weather in Paris?"),
        calling | assistant,
        {"role": "tool", "tool_call_id": call_id, "content": "18 degrees, no wind"},
        *between,
        user("Thank you. Is that warm? Answer yes or no."),
    ]


HISTORY_FEATURES = ("id", "user", "bare", "unreasoned", "unsigned")

# --- images ---------------------------------------------------------------------------------------

COLOUR = "red"
SIDE = 64
"""Width and height of the image in pixels: some models reject less than 32."""


def _image_url() -> str:
    """A red square, as a data URL."""

    def png_chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    rows = (b"\0" + b"\xff\0\0" * SIDE) * SIDE
    png = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(rows, 9))
        + png_chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


IMAGE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Which colour is this picture? Answer with one word."},
            {"type": "image_url", "image_url": {"url": _image_url()}},
        ],
    }
]

# --- parameters -----------------------------------------------------------------------------------

NO_SUCH_FIELD = "translator_probe"
PARAMETERS: dict[str, tuple[Fields, str]] = {
    "temperature": ({"temperature": 0.7}, r"\btemperature\b"),
    "top_p": ({"top_p": 0.95}, r"\btop_?p\b"),
    "presence_penalty": ({"presence_penalty": 0.1}, r"\bpresence_?penalty\b"),
    "frequency_penalty": ({"frequency_penalty": 0.1}, r"\bfrequency_?penalty\b"),
    "logprobs": ({"logprobs": True, "top_logprobs": 1}, r"log_?prob"),
    "user": ({"user": "translator"}, r"(?:['\"`.]|parameter )user\b"),
    "prompt_cache_key": ({"prompt_cache_key": "translator"}, r"\bprompt_?cache_?key\b"),
    NO_SUCH_FIELD: ({NO_SUCH_FIELD: True}, rf"\b{NO_SUCH_FIELD}\b"),
}
"""Optional fields by name, each with the pattern by which a rejection names it."""

# --- thinking -------------------------------------------------------------------------------------

_TEMPLATE = ("enable_thinking", "thinking")
SWITCHES: dict[str, tuple[Fields, Fields]] = {
    "reasoning_effort": ({"reasoning_effort": "none"}, {"reasoning_effort": "high"}),
    "chat_template_kwargs": (
        {"chat_template_kwargs": dict.fromkeys(_TEMPLATE, False)},
        {"chat_template_kwargs": dict.fromkeys(_TEMPLATE, True)},
    ),
    "thinking": ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}),
    "enable_thinking": ({"enable_thinking": False}, {"enable_thinking": True}),
    "reasoning.enabled": ({"reasoning": {"enabled": False}}, {"reasoning": {"enabled": True}}),
    "reasoning.effort": ({"reasoning": {"effort": "none"}}, {"reasoning": {"effort": "high"}}),
}
"""Fields that switch thinking off, and the same fields to switch it on."""

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
)
SPLITTERS: tuple[Fields, ...] = ({"reasoning_split": True}, {"reasoning_format": "parsed"})
"""Fields that make some upstreams move reasoning from tags to a field of its own."""
