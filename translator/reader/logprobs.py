"""Log probabilities of an answer's text, from those of all its tokens.

Servers give them for each token of an answer that is not streamed: reasoning, its tags, the tokens
that end it. Of these the ones are kept that spell the text, as a stream gives them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from translator.wire import chat
from translator.wire.deltas import Logprob, TokenLogprob


def read_logprobs(logprobs: chat.Logprobs | None) -> list[Logprob] | None:
    """The log probabilities of a choice; None where it has none."""
    if logprobs is None or not logprobs.content:
        return None
    return [
        Logprob(
            entry.token,
            entry.logprob,
            _bytes(entry.bytes, entry.token),
            [
                TokenLogprob(top.token, top.logprob, _bytes(top.bytes, top.token))
                for top in entry.top_logprobs or ()
            ],
        )
        for entry in logprobs.content
    ]


def spelling(text: str, behind: str, logprobs: list[Logprob]) -> list[Logprob]:
    """The log probabilities of the tokens that spell `text`, which follows `behind`.

    All of them where no tokens spell it: a character may be cut between two tokens. A token of
    which only a part is in the text counts, one without bytes does not.
    """
    given = [_token_bytes(logprob.bytes) for logprob in logprobs]
    spelled = b"".join(given)
    wanted = text.encode()
    before = behind.strip().encode()
    start = spelled.find(wanted, max(0, spelled.find(before)) + len(before))
    if start < 0:
        start = spelled.find(wanted)
    if start < 0:
        return logprobs
    ends = itertools.accumulate(map(len, given))
    inside = (
        size and end > start and end - size < start + len(wanted)
        for end, size in zip(ends, map(len, given), strict=True)
    )
    return list(itertools.compress(logprobs, inside))


def _bytes(given: list[int] | None, token: str) -> list[int]:
    return list(token.encode()) if given is None else given


def _token_bytes(values: Sequence[int]) -> bytes:
    return bytes(value & 255 for value in values)
