"""Advice: settings of a request that steer the answer, and whose words come and go.

    reasoning.effort, text.verbosity, service_tier                      the nearest known word
    reasoning.summary, .generate_summary, .context, .mode,
    truncation, prompt_cache_retention                                  no effect here

Clients learn new words before servers do, and a refusal ends each turn of such a client. So a word
that is not known here becomes the nearest one, or is left out; either is a notice, and the response
repeats the client's own word. A value of another type than text is refused with the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from translator.wire import responses
from translator.wire.notices import Notice, UnknownWord

MAX_QUOTED_CHARACTERS = 40
"""How much of a word a notice repeats."""

_NOT_SPOKEN = re.compile(r"[\W_]+")


def _words(known: object, **others: str) -> dict[str, str]:
    """The known words, and further spellings of each; case and separators do not matter."""
    words: tuple[str, ...] = get_args(known)
    spellings = {
        _spoken(one): word for word in words for one in (word, *others.get(word, "").split())
    }
    return spellings | {word: word for word in words}


def _spoken(word: str) -> str:
    return _NOT_SPOKEN.sub("", word).lower()


_EFFORTS = _words(
    responses.Effort,
    none="off disabled disable false no nothink no-think non-thinking",
    minimal="min minimum lowest very-low",
    low="light little",
    medium="med mid middle moderate normal standard balanced",
    high="extended heavy hard",
    xhigh="extra-high very-high extra",
    max="maximum highest ultra ultra-high ultimate",
)
_VERBOSITIES = _words(
    responses.Verbosity,
    low="none min minimal minimum lowest very-low brief concise short terse",
    medium="med mid middle moderate normal standard default balanced",
    high="xhigh extra-high very-high max maximum highest ultra verbose detailed long",
)
_TIERS = _words(responses.Tier, default="standard standard-only")
_INEFFECTIVE_IN_REASONING = {
    "summary": _words(responses.Summary) | {word: word for word in responses.NO_SUMMARY},
    "generate_summary": _words(responses.Summary),
    "context": _words(responses.ReasoningContext),
    "mode": _words(responses.ReasoningMode),
}
_INEFFECTIVE = {
    "truncation": _words(responses.Truncation),
    "prompt_cache_retention": _words(responses.CacheRetention),
}


def with_known_words(request: responses.Request, notices: list[Notice]) -> responses.Request:
    """The request with words that are known here; every other one is a notice."""
    fields: dict[str, Any] = {}
    if request.reasoning is not None:
        fields["reasoning"] = known_reasoning(request.reasoning, "reasoning", notices)
    if request.text is not None:
        fields["text"] = known_text(request.text, "text", notices)
    if request.service_tier is not None:
        tier = _known(request.service_tier, _TIERS, "service_tier", notices)
        fields["service_tier"] = tier
    for name, words in _INEFFECTIVE.items():
        if (word := getattr(request, name)) is not None:
            fields[name] = _known(word, words, name, notices)
    return msgspec.structs.replace(request, **fields) if fields else request


def known_reasoning(
    config: responses.ReasoningConfig, path: str, notices: list[Notice]
) -> responses.ReasoningConfig:
    """Reasoning settings, at `path` in the request, in known words."""
    fields: dict[str, Any] = {}
    if config.effort is not None:
        fields["effort"] = _known(config.effort, _EFFORTS, f"{path}.effort", notices)
    for name, words in _INEFFECTIVE_IN_REASONING.items():
        if (word := getattr(config, name)) is not None:
            fields[name] = _known(word, words, f"{path}.{name}", notices)
    return msgspec.structs.replace(config, **fields)


def known_text(
    config: responses.TextConfig, path: str, notices: list[Notice]
) -> responses.TextConfig:
    """Text settings, at `path` in the request, in known words."""
    if config.verbosity is None:
        return config
    word = _known(config.verbosity, _VERBOSITIES, f"{path}.verbosity", notices)
    return msgspec.structs.replace(config, verbosity=word)


def _known(word: str, words: Mapping[str, str], path: str, notices: list[Notice]) -> str | None:
    """The word, or the nearest known one, or None for one of which nothing is known."""
    if words.get(word) == word:
        return word
    nearest = words.get(_spoken(word))
    quoted = word[:MAX_QUOTED_CHARACTERS] + "…" * (len(word) > MAX_QUOTED_CHARACTERS)
    if nearest is None:
        code, instead = "ignored", "it was left out"
    else:
        code, instead = "weakened", f"the nearest one is '{nearest}'"
    notices.append(UnknownWord(path, code, f"Unknown value '{quoted}'; {instead}.", quoted))
    return nearest
