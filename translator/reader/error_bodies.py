"""Error bodies: where upstreams put the message of an error, and everything that they say of it.

    body   = JSON | stream of events | HTML | text ;
    stream = { "event:" ... | "data:" JSON | ... }            DashScope: in an HTTP 400
    JSON   = envelope, whose message may itself be a body     a gateway repeats what it was told

There are some thirty envelopes in the wild: OpenAI's, strings, arrays, FastAPI details, numbers for
codes. `found_in` and `error_in` return the message that a client gets, and the whole text: with
what stands in `param`, in details, and in the JSON of a server behind the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from translator.common.lazy_pattern import lazy_pattern
from translator.wire.json_values import NOT_JSON, as_integer, as_list, as_object, as_string

NO_MESSAGE = "The upstream reported an error without a message."

MAX_DEPTH = 5
"""Bodies within messages of bodies, and levels of one body, that are looked into."""

_VAGUE = lazy_pattern(
    r"(?:\w+ ){0,3}(?:param(?:eter)?|field|argument|value|property|key|option)s?(?: \w+){0,2}\.?",
    re.IGNORECASE,
)
"""A message that leaves it to `param` what it is about: "Unsupported parameter"."""

MAX_REMARKS = 50
"""Texts beside the message that are read; some upstreams repeat the whole request."""

_STATUS_KEYS = ("http_code", "status_code", "http_status_code", "status", "code")
_REMARK_KEYS = frozenset(
    {"message", "msg", "detail", "details", "description", "reason", "error", "errors", "raw"}
    | {"error_description", "title", "hint", "cause", "param", "innererror", "metadata"}
)
"""Where texts of an upstream stand. Not among them: `input`, `value`, `failed_generation`, which
repeat what the client or the model wrote."""

_HTML_TITLE = lazy_pattern(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAGS = lazy_pattern(r"<[^>]*>")
_EVENT_LINE = re.compile(rb"(?:data|event|id|retry)?:")
_DATA_LINE = re.compile(rb"^data: ?([^\r\n]*)", re.MULTILINE)
_OBJECT = lazy_pattern(r"\{\s*\"")


class Found(Struct, frozen=True):
    """An error as the upstream gave it; a missing text is empty.

    `message` is for the client, `text` is everything that the upstream says, `status` the HTTP
    status within the body.
    """

    message: str
    code: str = ""
    type: str = ""
    status: int = 0
    param: str = ""
    text: str = ""


def found_in(body: bytes) -> Found | None:
    """The error in the body of an HTTP error; None where it has no message."""
    payload = body.strip()
    decoded = _decoded(payload)
    found = error_in(decoded)
    if found is None and isinstance(decoded, str):
        found = _of_message(decoded, 1) or Found(decoded, text=decoded)
    if found is None:
        text = plain_message(payload)
        found = Found(text, text=text) if text else None
    return found


def error_in(decoded: object, depth: int = 0) -> Found | None:
    """The error in a decoded JSON value, in any of the places where upstreams put it."""
    entries = as_list(decoded)
    body = as_object(entries[0] if entries else decoded)
    if body is None:
        return None
    found = _in_envelope(body, depth)
    return None if found is None else _with_inner(found, body, depth)


def _in_envelope(body: dict[str, Any], depth: int) -> Found | None:
    error = as_object(body.get("error"))
    if error is not None:
        return _from_object(error, body)
    text = as_string(body.get("error"))
    if text:
        detail = as_string(body.get("message"))
        if detail:
            text = f"{text}: {detail}"
        return Found(text, _word(body.get("code")), _word(body.get("error_type")))
    status = as_object(body.get("base_resp")) or {}
    code = as_integer(status.get("status_code"))
    if code:  # MiniMax; 0 means success
        text = _sentence(status.get("status_msg")) or f"The upstream answered status {code}."
        return Found(text, str(code))
    if isinstance(body.get("choices"), list):
        return None
    if body.get("object") == "error" or (
        "message" in body and body.keys() & {"code", "type", "error_code"}
    ):
        return _from_object(body, {})
    text = _sentence(body.get("detail")) or _sentence(body.get("message"))
    if text:
        return Found(text)
    errors = as_list(body.get("errors"))
    return error_in({"error": errors[0]}, depth + 1) if errors else None


def _from_object(error: dict[str, Any], around: dict[str, Any]) -> Found:
    inner = as_string(error.get("error"))
    if inner is not None:  # Together, older: {"error": {"error": "…"}}
        error = {"message": inner, "type": error.get("error_type")}
    code = _word(error.get("code")) or _word(error.get("error_code"))  # Snowflake has both
    numbers = (_number(one.get(key)) for one in (error, around) for key in _STATUS_KEYS)
    status = next((number for number in numbers if 400 <= number < 600), 0)
    message = (
        _sentence(error.get("message"))
        or _sentence(around.get("message"))
        or _word(error.get("type"))
        or NO_MESSAGE
    )
    raw = (as_object(error.get("metadata")) or {}).get("raw")
    said = as_string(raw)
    if said is not None:
        behind = _of_message(said, 1)
        said = said if behind is None else behind.message
    else:
        behind = error_in(raw, 1)
        said = "" if behind is None else behind.message
    if said:
        message = f"{message}: {said}"  # OpenRouter: the routed upstream's words
    param = _word(error.get("param"))
    if " " in param.strip():  # MiMo: the reason; a path has no blanks
        message, param = f"{message}: {param}", ""
    elif param and param not in message and _VAGUE.fullmatch(message.strip()):
        message = f"{message.rstrip('. ')}: '{param}'"
    if code == str(status):
        code = ""
    return Found(message, code, _word(error.get("type")), status, param)


def _with_inner(found: Found, body: dict[str, Any], depth: int) -> Found:
    """The error with what a server behind the server says, which its message may hold as JSON."""
    inner = _of_message(found.message, depth + 1)
    if inner is not None:
        found = replace(
            inner,
            code=inner.code or found.code,
            type=inner.type or found.type,
            status=inner.status or found.status,
            param=inner.param or found.param,
        )
    texts = [found.text or found.message]
    for remark in _remarks(body):
        if len(texts) > MAX_REMARKS:
            break
        if not any(remark in text for text in texts):
            texts.append(remark)
    if inner is None:
        behind = _embedded(found.message, depth + 1)
        if behind is not None:
            texts.append(behind.text)
    return replace(found, text="\n".join(texts))


def _of_message(message: str, depth: int) -> Found | None:
    """The error in a message that is itself a body; None for a sentence."""
    stripped = message.lstrip()
    if depth > MAX_DEPTH or not stripped.startswith(("{", "[", "data:", "event:")):
        return None
    return error_in(_decoded(stripped.encode("utf-8", "replace").strip()), depth)


def _embedded(message: str, depth: int) -> Found | None:
    """The error in the JSON at the end of a sentence, as of LiteLLM: `… - {"error": …}`."""
    begin = _OBJECT.search(message)
    end = message.rfind("}")
    if depth > MAX_DEPTH or begin is None or end < begin.start():
        return None
    return error_in(_decoded(message[begin.start() : end + 1].encode("utf-8", "replace")), depth)


def _decoded(payload: bytes) -> object:
    """A body as a JSON value; of a stream, the data of its first event. None if it is neither."""
    if _EVENT_LINE.match(payload):
        data = _DATA_LINE.findall(payload)
        payload = data[0].strip() if data else b""
    try:
        decoded: object = msgspec.json.decode(payload)
    except NOT_JSON:
        return None
    return decoded


def _remarks(value: object, depth: int = 0) -> Iterator[str]:
    """What an upstream says in an error body, in the order in which it stands there."""
    if depth > MAX_DEPTH:
        return
    for entry in as_list(value) or ():
        if isinstance(entry, str):
            yield entry
        else:
            yield from _remarks(entry, depth + 1)
    fields = as_object(value) or {}
    if as_list(fields.get("loc")) is not None:
        yield _sentence(fields)
    for name, entry in fields.items():
        if name not in _REMARK_KEYS:
            continue
        if not isinstance(entry, str):
            yield from _remarks(entry, depth + 1)
        elif name != "param" or " " in entry:
            inner = _of_message(entry, depth + 1)
            yield entry if inner is None else inner.text


def _sentence(value: object) -> str:
    """The text in a message of any shape: a string, FastAPI's details, an object around them."""
    if isinstance(value, str):
        return value
    entries = as_list(value)
    if entries is not None:
        return "; ".join(filter(None, map(_sentence, entries)))
    fields = as_object(value)
    if fields is None:
        return ""
    path, text = as_list(fields.get("loc")), as_string(fields.get("msg"))
    if path is not None and text is not None:
        return f"{'.'.join(map(str, path))}: {text}"
    return _sentence(fields.get("detail")) or _sentence(fields.get("message"))


def _word(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _number(value: object) -> int:
    word = _word(value)
    return int(word) if word.isascii() and word.isdigit() and len(word) < 9 else 0


def plain_message(body: bytes) -> str:
    """The sentence in a body that is no JSON: the title of a page, or the beginning of the text."""
    text = body[: 16 * 1024].decode("utf-8", "replace")
    title = _HTML_TITLE.search(text)
    if title:
        return " ".join(title[1].split())
    return " ".join(_TAGS.sub(" ", text).split())[:500]
