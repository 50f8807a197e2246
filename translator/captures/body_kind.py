"""What a file holds that is given as an upstream's response body, and is none.

A service answers any such body, with a failure; whoever replays one has named the wrong file.
"""

from __future__ import annotations

import codecs

import msgspec

from translator.reader.body_sniffer import begins_value
from translator.reader.error_bodies import error_in
from translator.reader.sse import Decoder
from translator.wire.errors import AnswerTooLarge
from translator.wire.json_values import NOT_JSON, as_object

_BLANK = b" \t\r\n\xef\xbb\xbf"
_DONE = b"[DONE]"
_NEITHER = "it is neither an event stream nor JSON"


def why_no_answer(body: bytes) -> str:
    """Why a body is no response of an upstream, as a clause; empty where it may be one.

    One that breaks off, or that has an error, may.
    """
    text = body.strip(_BLANK)
    if not text:
        return "it is empty"
    if not _is_text(body):
        return "it is binary, or compressed"
    if text.startswith(b"<"):
        return "it is HTML, or XML"
    if text.startswith(b"HTTP/"):
        return "it begins with the header of an HTTP response, which is to be left out"
    return _why_no_completion(text) if begins_value(body) else _why_no_stream(body)


def _is_text(body: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(body)  # which may break off in a character
    except UnicodeDecodeError:
        return False
    return b"\0" not in body


def _why_no_completion(text: bytes) -> str:
    try:
        value = msgspec.json.decode(text)
    except NOT_JSON:
        return "" if b'"choices"' in text else _NEITHER
    fields = as_object(value) or {}
    if "choices" in fields:
        return ""
    if fields.get("object") == "response":
        return "it is a response of the Responses API, which is what replay makes of one"
    if "input" in fields or "messages" in fields:
        return "it is a request; --request takes one, beside the response body"
    if error_in(value) is not None:
        return ""
    return 'it is JSON, but no chat completion: it has no "choices"'


def _why_no_stream(body: bytes) -> str:
    decoder = Decoder()
    try:
        payloads = [*decoder.feed(body), *decoder.end()]
    except AnswerTooLarge:
        return ""
    events = False
    for payload in payloads:
        try:
            fields = as_object(msgspec.json.decode(payload)) or {}
        except NOT_JSON:
            fields = {}
        if str(fields.get("type")).startswith("response."):
            events = True
        elif payload == _DONE or b'"choices"' in payload or error_in(fields) is not None:
            return ""
    if events:
        return "it has events of the Responses API, which is what replay makes of a stream"
    return 'its events are no chat chunks: none has "choices"' if payloads else _NEITHER
