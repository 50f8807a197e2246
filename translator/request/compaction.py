"""Compaction: a long conversation becomes a sealed summary, which the client carries.

    request    conversation, compaction_trigger       from the client
    upstream   conversation, SUMMARY_REQUEST          the model writes a summary
    answer     one compaction item                    the sealed summary
    next       …, compaction item, new items          the summary becomes a message

    blob = "translator.compaction.1." base64url( zlib( json( { summary } ) ) ) ;

The blob is neither secret nor signed. A stateless service has no key that all its instances share,
and a signature would protect nothing: a client that forges a summary could also write any message
of the conversation. For the same reason a summary is sent as a user message, never as a system
message: it may repeat the output of tools, and must not gain authority by that. Damage is detected:
zlib's checksum fails, and the request is refused with the path of the item.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct, UnsetType

from translator.common.pauses import Pause, no_pause, paced
from translator.common.pieces import Pieces
from translator.common.sealed import pack, unpack
from translator.wire import items, responses
from translator.wire.deltas import (
    Compaction,
    Delta,
    Failure,
    Reasoning,
    Refusal,
    ServiceTier,
    Text,
    ToolCall,
    Usage,
    Verdict,
)
from translator.wire.errors import InvalidRequest, UpstreamError
from translator.wire.json_values import NOT_JSON, utf8_size
from translator.wire.notices import Notice

PREFIX = "translator.compaction.1."
"""Identifies our summary blobs and their version."""

MAX_SUMMARY_BYTES = 4 * 1024 * 1024
"""Largest summary that is sealed or unsealed, in bytes of JSON before compression."""

MAX_KEPT_CHARACTERS = 256_000
"""Most characters of user messages that are kept verbatim, about 64,000 tokens. The newest ones are
kept first, the last one at any length; the summary covers the others."""

PART_CHARACTERS = 6_000
"""The size of a part that is not text (an image, a file), about the tokens of an image."""

SUMMARY_REQUEST = """\
The conversation up to here is about to be replaced by a summary of it, because the context window \
is limited. Write that summary now. Whoever goes on with the work, you or another model, will have \
only your summary and possibly the user's own messages; everything else is gone.

Say, as far as there is something to say about it:
- what the user wants, with every constraint and preference that was stated, in the user's words \
where the wording matters;
- what has been done and found out so far, and which decisions were made for which reasons;
- what is needed to go on, exactly: names, paths, commands, ids, values, error messages, pieces of \
code, the state of files and of whatever else was changed;
- what is still open, and the next steps.

If an earlier summary is part of the conversation, carry over what still matters in it. Do not \
answer the user, do not go on with the work, and do not call any tool: write only the summary."""
"""The last user message of the chat request, in place of the trigger."""

_INTRODUCTION = "[Earlier parts of this conversation were replaced by this summary of them.]\n\n"


class _Blob(Struct, frozen=True):
    summary: str


_CALLS_NOTHING = (b'"auto"', b'"none"', b"null")
_decoder = msgspec.json.Decoder(_Blob)


def seal_summary(summary: str) -> str | None:
    """The blob for a summary; None for one over MAX_SUMMARY_BYTES."""
    plain = msgspec.json.encode(_Blob(summary))
    return None if len(plain) > MAX_SUMMARY_BYTES else pack(PREFIX, plain)


def unseal_summary(blob: str) -> str | None:
    """The summary in one of our blobs; None for a foreign, damaged or oversized one."""
    try:
        return _decoder.decode(unpack(PREFIX, blob, MAX_SUMMARY_BYTES) or b"").summary
    except NOT_JSON:
        return None


def read_summary(blob: str, path: str) -> str:
    """The message for a compaction item; `path` is the item's.

    Raises InvalidRequest for an unreadable blob: without it most of the conversation would be lost
    silently.
    """
    summary = unseal_summary(blob)
    if summary is None:
        raise InvalidRequest(
            "The compacted context is damaged: it must be sent back unchanged."
            if blob.startswith(PREFIX)
            else "The compacted context was not made here and cannot be read. Send the "
            "conversation itself, or compact it again.",
            param=f"{path}.encrypted_content",
            code="invalid_value",
        )
    return _INTRODUCTION + summary


# --- the request for a summary ------------------------------------------------------------------


def without_output_format(request: responses.Request) -> tuple[responses.Request, list[Notice]]:
    """The request without an output format, and notices of the settings that a summary ignores.

    Tools stay declared, since the prompt begins with them and upstreams cache its beginning;
    `tool_choice` prevents calls. Where the upstream has no choice of `none`, only functions that
    the history calls stay.
    """
    text, notices = request.text, list[Notice]()
    if text and text.format and not isinstance(text.format, responses.TextFormat):
        notices.append(Notice("text.format", "ignored", "A summary is free text."))
    if request.top_logprobs:
        notices.append(Notice("top_logprobs", "ignored", "A summary has no log probabilities."))
    choice = request.tool_choice
    if not isinstance(choice, UnsetType) and bytes(choice) not in _CALLS_NOTHING:
        notices.append(Notice("tool_choice", "ignored", "A summary calls no tools."))
    if text is None:
        return request, notices
    free = msgspec.structs.replace(text, format=None)
    return msgspec.structs.replace(request, text=free), notices


def ends_in_trigger(source: str | Sequence[Raw] | None) -> bool:
    """Whether an input asks for a compaction: its last item is a `compaction_trigger`."""
    if not source or isinstance(source, str):
        return False
    return head_of(source[-1]).type == "compaction_trigger"


# --- items beside a summary ----------------------------------------------------------------


def kept_items(source: Sequence[Raw], pause: Pause = no_pause) -> tuple[list[Raw], list[int]]:
    """The items that a compaction does not replace, and the indexes of the messages left out.

    Instructions and declarations are kept, and user messages up to MAX_KEPT_CHARACTERS. `pause` is
    called between items.
    """
    kept: list[Raw] = []
    left_out: list[int] = []
    room, newest = MAX_KEPT_CHARACTERS, True
    for index in paced(reversed(range(len(source))), pause):
        head = head_of(source[index])
        is_message = head.type in (None, "message")
        if head.type not in _DECLARATIONS and not (is_message and head.role in _CLIENT_ROLES):
            continue
        if is_message and head.role == "user":
            room -= _characters(source[index])
            if room < 0 and not newest:
                left_out.append(index)
                continue
            newest = False
        kept.append(source[index])
    return kept[::-1], left_out[::-1]


def after_compaction(earlier: Sequence[Raw], pause: Pause = no_pause) -> list[Raw]:
    """The items of earlier responses, shortened by the last compaction among them.

    A client that refers to a response by its id does not send the shortened conversation itself.
    `pause` is called between items.
    """
    kinds = [head_of(raw).type for raw in paced(earlier, pause)]
    pairs = enumerate(itertools.pairwise(kinds), 1)
    starts = [at for at, pair in pairs if pair == ("compaction_trigger", "compaction")]
    start = starts[-1] if starts else 0
    kept, _ = kept_items(earlier[:start], pause)
    rest = zip(earlier[start:], kinds[start:], strict=True)
    return kept + [raw for raw, kind in rest if kind != "compaction_trigger"]


def head_of(raw: Raw) -> items.Head:
    """The discriminator fields of an item; empty for a malformed one, which is refused later."""
    try:
        return msgspec.json.decode(raw, type=items.Head)
    except NOT_JSON:
        return items.Head()


_CLIENT_ROLES = ("user", "developer", "system")
_DECLARATIONS = ("additional_tools", "configuration_update")


def _characters(message: Raw) -> int:
    try:
        content = msgspec.json.decode(message, type=items.InputMessage).content or ""
    except NOT_JSON:
        return 0  # a malformed message, which is refused later
    if isinstance(content, str):
        return len(content)
    texts = (part if isinstance(part, str) else getattr(part, "text", None) for part in content)
    return sum(PART_CHARACTERS if text is None else len(text) for text in texts)


# --- the answer ---------------------------------------------------------------------------------


class SummaryReader:
    """Collects the text of an answer and seals it as one compaction at the end.

    Reasoning and calls are not part of the summary and are dropped.
    """

    __slots__ = ("_dropped", "_texts")

    def __init__(self) -> None:
        self._texts = Pieces()
        self._dropped = 0

    def read(self, deltas: Sequence[Delta]) -> list[Delta]:
        """Collect the text; returns the deltas that stay, usage and service tier."""
        stay: list[Delta] = []
        for delta in deltas:
            match delta:
                case Text():
                    self._texts.add(delta.text)
                case Usage() | ServiceTier():
                    stay.append(delta)
                case Reasoning() | Refusal():
                    self._dropped += utf8_size(delta.text)
                case ToolCall():
                    self._dropped += utf8_size(delta.arguments)
                case _:
                    pass
        return stay

    @property
    def size(self) -> int:
        """The bytes of the text so far."""
        return self._texts.settle()

    @property
    def written(self) -> int:
        """The bytes of text, reasoning and arguments that have come, in UTF-8."""
        return self._texts.settle() + self._dropped

    def end(self, verdict: Verdict) -> tuple[list[Delta], Verdict]:
        """The compaction, and the verdict of the response.

        An incomplete summary is discarded: a client would replace its conversation by it.
        """
        if isinstance(verdict, Failure) or verdict.reason != "stop":
            return [], verdict
        summary = self._texts.text().strip()
        if not summary:
            return [], Failure(UpstreamError("The upstream returned no summary."))
        blob = seal_summary(summary)
        if blob is None:
            return [], Failure(UpstreamError(f"The summary is over {MAX_SUMMARY_BYTES} bytes."))
        return [Compaction(blob)], verdict
