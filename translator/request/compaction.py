"""Compaction: a long conversation becomes a summary, which travels through the client.

    asked    conversation, compaction_trigger       the client wants its context shortened
    sent     conversation, SUMMARY_REQUEST          the model sums up what it sees
    given    one compaction item                    the model's summary, sealed
    later    …, compaction item, new items          the summary stands in its place as a message

    blob = "translator.compaction.1." base64url( zlib( json( { summary } ) ) ) ;

The blob is neither secret nor signed. A service that keeps nothing has no key that all its copies
share, and a signature would protect nothing: who could forge a summary can as well write any
message of the conversation. For the same reason a summary comes back with the voice of the user,
never of the system: it may repeat what tools printed, and must not gain authority by that. Promised
is that damage shows: zlib's checksum fails, and the request is refused with the path of the item.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct, UnsetType

from translator.common.sealed import pack, unpack
from translator.wire import items, responses
from translator.wire.deltas import Compaction, Delta, Failure, ServiceTier, Text, Usage, Verdict
from translator.wire.errors import InvalidRequest, UpstreamError
from translator.wire.json_values import NOT_JSON
from translator.wire.notices import Notice

PREFIX = "translator.compaction.1."
"""Marks a blob as a summary of ours and tells its version."""

MAX_SUMMARY_BYTES = 4 * 1024 * 1024
"""Largest summary that is sealed or opened, in bytes of JSON before compression."""

MAX_KEPT_CHARACTERS = 256_000
"""How much of the user's messages is kept word for word, in characters, about 64,000 tokens. The
newest come first, and the last one is kept at any length; of the others the summary tells."""

PART_CHARACTERS = 6_000
"""What a part that is no text (an image, a file) counts as, about what an image costs in tokens."""

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
    """The blob for a summary; None when it is over MAX_SUMMARY_BYTES."""
    plain = msgspec.json.encode(_Blob(summary))
    return None if len(plain) > MAX_SUMMARY_BYTES else pack(PREFIX, plain)


def unseal_summary(blob: str) -> str | None:
    """The summary in a blob of ours; None for anybody else's, a damaged or an oversized one."""
    try:
        return _decoder.decode(unpack(PREFIX, blob, MAX_SUMMARY_BYTES) or b"").summary
    except NOT_JSON:
        return None


def read_summary(blob: str, path: str) -> str:
    """The message that a compaction item stands for; `path` is that of the item.

    Raises InvalidRequest for what cannot be read: to go on without it would lose most of the
    conversation in silence.
    """
    summary = unseal_summary(blob)
    if summary is None:
        raise InvalidRequest(
            "The compacted context is damaged: it must come back as it was given."
            if blob.startswith(PREFIX)
            else "The compacted context was not made here and cannot be read. Send the "
            "conversation itself, or compact it again.",
            param=f"{path}.encrypted_content",
            code="invalid_value",
        )
    return _INTRODUCTION + summary


# --- the request for a summary ------------------------------------------------------------------


def without_output_format(request: responses.Request) -> tuple[responses.Request, list[Notice]]:
    """The request without what would bend a summary, and what was taken from it.

    Tools stay declared, since the prompt begins with them and upstreams cache its beginning; that
    none is called is up to `tool_choice`.
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


# --- what stays beside a summary ----------------------------------------------------------------


def kept_items(source: Sequence[Raw]) -> tuple[list[Raw], list[int]]:
    """The items that a compaction does not replace, and the places of messages left out.

    Instructions and declarations are kept, and as many messages of the user as there is room for.
    """
    kept: list[Raw] = []
    left_out: list[int] = []
    room, newest = MAX_KEPT_CHARACTERS, True
    for index in reversed(range(len(source))):
        head = head_of(source[index])
        is_message = head.type in (None, "message")
        if head.type not in _DECLARING and not (is_message and head.role in _ASKING):
            continue
        if is_message and head.role == "user":
            room -= _characters(source[index])
            if room < 0 and not newest:
                left_out.append(index)
                continue
            newest = False
        kept.append(source[index])
    return kept[::-1], left_out[::-1]


def after_compaction(earlier: Sequence[Raw]) -> list[Raw]:
    """The items of earlier responses as they stand after the last compaction among them.

    A client that refers to a response by its id does not send what is left of the conversation:
    it is the server that shortens it.
    """
    kinds = [head_of(raw).type for raw in earlier]
    pairs = enumerate(itertools.pairwise(kinds), 1)
    starts = [at for at, pair in pairs if pair == ("compaction_trigger", "compaction")]
    start = starts[-1] if starts else 0
    kept, _ = kept_items(earlier[:start])
    rest = zip(earlier[start:], kinds[start:], strict=True)
    return kept + [raw for raw, kind in rest if kind != "compaction_trigger"]


def head_of(raw: Raw) -> items.Head:
    """What kind of item it is; what is none is refused when the request is translated."""
    try:
        return msgspec.json.decode(raw, type=items.Head)
    except NOT_JSON:
        return items.Head()


_ASKING = ("user", "developer", "system")
_DECLARING = ("additional_tools", "configuration_update")


def _characters(message: Raw) -> int:
    try:
        content = msgspec.json.decode(message, type=items.InputMessage).content or ""
    except NOT_JSON:
        return 0  # such a message is refused when the request is translated
    if isinstance(content, str):
        return len(content)
    texts = (part if isinstance(part, str) else getattr(part, "text", None) for part in content)
    return sum(PART_CHARACTERS if text is None else len(text) for text in texts)


# --- the answer ---------------------------------------------------------------------------------


class SummaryReader:
    """Makes one compaction out of an answer: its text, sealed at the end.

    Whatever else the model produced (thoughts, calls that nobody asked for) led to the summary and
    is not part of it.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def read(self, deltas: Sequence[Delta]) -> list[Delta]:
        """What of the answer is not for the summary."""
        self._pieces += [delta.text for delta in deltas if isinstance(delta, Text)]
        return [delta for delta in deltas if isinstance(delta, Usage | ServiceTier)]

    def end(self, verdict: Verdict) -> tuple[list[Delta], Verdict]:
        """The compaction, and how the response ends.

        Half a summary is none: a client would drop for it what it does not tell.
        """
        if isinstance(verdict, Failure) or verdict.reason != "stop":
            return [], verdict
        summary = "".join(self._pieces).strip()
        if not summary:
            return [], Failure(UpstreamError("The upstream was to write a summary and wrote none."))
        blob = seal_summary(summary)
        if blob is None:
            return [], Failure(UpstreamError(f"The summary is over {MAX_SUMMARY_BYTES} bytes."))
        return [Compaction(blob)], verdict
