"""Verdict: the dialects ranked by the findings, and the settings of the best one.

    order = host, names, no guess, fewest contradictions, marks, fewest facts to correct ;

What an upstream says of itself counts more than what is seen of it: a known host comes first, then
a server that names itself. Where there is neither, the best dialect is the one that the fewest
findings contradict; the other criteria decide between equals. Without any sign of its server, a
dialect that is contradicted more than once is a guess, and the base comes before it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from translator.common.toml import toml_key, toml_lines
from translator.dialects import BASE, DIALECTS, Dialect, candidates, known_host
from translator.dialects.table import own_facts
from translator.service.config.facts import resolve_dialect
from translator.service.config.loading import read_table

from .findings import Finding, contradicted, corrected

MARKS: Mapping[str, tuple[str, ...]] = {
    "azure": ("chunk.prompt_filter_results", "choice.content_filter_results"),
    "cerebras": ("chunk.time_info",),
    "deepseek": ("usage.prompt_cache_hit_tokens",),
    "fireworks": ("chunk.perf_metrics", "choice.raw_output"),
    "gemini": ("extra_content",),
    "groq": ("chunk.x_groq",),
    "llama_cpp": ("chunk.timings",),
    "lm_studio": ("chunk.stats",),
    "minimax": ("chunk.base_resp", "chunk.input_sensitive", "delta.audio_content"),
    "mistral": ("part.thinking", "owner:mistralai"),
    "moonshot": ("fingerprint:fpv0_", "owner:moonshot", "choice.usage"),
    "openrouter": ("choice.native_finish_reason",),
    "sglang": ("choice.matched_stop",),
    "tgi": ("fingerprint:-native",),
    "together": ("choice.seed", "delta.token_id"),
    "vllm": ("choice.stop_reason",),
    "xai": ("usage.num_sources_used", "usage.cost_in_usd_ticks"),
}
"""Marks of the servers behind each dialect: keys of a chunk, parts of its fingerprint, the maker of
the model. Gateways relay them, and other servers copy them, so they only decide between equals.
"""

NAMES: Mapping[str, tuple[str, ...]] = {
    "lm_studio": ("owner:organization_owner",),
    "ollama": ("owner:library", "fingerprint:fp_ollama"),
}
"""Marks by which a server names itself, where it does not use the name of its dialect."""

_ELSEWHERE = frozenset({"azure", "cloudflare", "openai"})
"""Their headers are on answers of others, too: of servers behind a network, and of imitators."""


MAX_UNSIGNED = 1
"""Most contradictions of a dialect of which there is no sign; with more it is a guess."""


class Fit(Struct, frozen=True):
    """A dialect, its contradictions and its corrections."""

    dialect: Dialect
    """With its facts for the model, before any correction."""
    corrected: Dialect
    """The same, corrected so that it agrees with all findings."""
    contradicted: list[Finding]

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def distance(self) -> int:
        """Number of contradictions, without weak findings."""
        return sum(not finding.weak for finding in self.contradicted)

    @property
    def overrides(self) -> dict[str, Any]:
        """The corrected facts as JSON values, for the settings."""
        return own_facts(self.corrected, self.dialect)


def ranked(
    findings: Sequence[Finding],
    *,
    model: str,
    base_url: str,
    marks: Collection[str] = (),
    only: str | None = None,
) -> list[Fit]:
    """All dialects, or `only` one, the best first; those that behaviour cannot tell are last."""
    host = host_of(base_url)
    names = list(DIALECTS) if only is None else [only]
    fits = {name: fitted(DIALECTS[name].for_model(model), findings) for name in names}

    def order(name: str) -> tuple[bool, bool, bool, int, bool, int, int]:
        fit = fits[name]
        signs = marked(name, marks)
        return (
            name != host or name == BASE.name,
            not named(name, marks),
            fit.distance > MAX_UNSIGNED and name != BASE.name and not signs,
            fit.distance,
            not signs,
            len({finding.fact for finding in fit.contradicted if not finding.weak}),
            len(own_facts(DIALECTS[name])),
        )

    likely = candidates(host)
    return [
        fits[name] for name in sorted(names, key=lambda name: (name not in likely, order(name)))
    ]


def host_of(base_url: str) -> str:
    """The dialect that is known for the host of a URL; that of the base for an unknown one."""
    return known_host(urlsplit(base_url).hostname or "")


def fitted(dialect: Dialect, findings: Sequence[Finding]) -> Fit:
    """A dialect with its facts for the model, measured by the findings."""
    dialect = msgspec.structs.replace(dialect, models=())
    return Fit(dialect, corrected(dialect, findings), contradicted(dialect, findings))


def marked(name: str, marks: Collection[str]) -> list[str]:
    """The marks that belong to a dialect, sorted."""
    seen = {mark for known in MARKS.get(name, ()) for mark in marks if _contains(known, mark)}
    return sorted(seen.union(named(name, marks)))


def named(name: str, marks: Collection[str]) -> list[str]:
    """The marks by which the server of a dialect names itself, sorted."""
    if name == BASE.name:
        return []
    known = NAMES.get(name, ())
    return sorted(mark for mark in marks if mark in known or _names(mark, name))


def _contains(known: str, mark: str) -> bool:
    """Whether a mark has the kind and the word of a known one, as in `owner:vllm`."""
    kind, colon, word = known.partition(":")
    return mark == known or bool(colon and mark.startswith(f"{kind}:") and word in mark)


def _names(mark: str, name: str) -> bool:
    """Whether the name of a dialect is in a mark: `server:llama.cpp`, `header:x-groq-region`.

    The owner of a model and the server of a response count only for the servers that operators run
    themselves: elsewhere they name the maker of the model, or a network in between.
    """
    kind, _, value = mark.partition(":")
    word = _plain(name)
    if kind == "header":
        own = name not in _ELSEWHERE and "-" in value
        return own and value.removeprefix("x-").partition("-")[0] == word
    if name not in DIALECTS or DIALECTS[name].hosts:
        return False
    if kind in ("server", "fingerprint"):
        return _plain(value).startswith(word)
    return kind == "owner" and _plain(value) == word


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def settings_lines(
    fit: Fit,
    *,
    name: str,
    base_url: str,
    api_key_env: str | None,
    given: Sequence[str] = (),
    fallback_urls: Sequence[str] = (),
) -> list[str]:
    """`[upstreams.NAME]` and its facts, in TOML; `given` lines are added to the section."""
    section = f"upstreams.{toml_key(name)}"
    urls = ", ".join(map(_toml, (base_url, *fallback_urls)))
    lines = [f"[{section}]", f"base_url = [{urls}]" if fallback_urls else f"base_url = {urls}"]
    if api_key_env is not None:
        lines.append(f"api_key_env = {_toml(api_key_env)}")
    lines += [f"dialect = {_toml(fit.name)}", *given]
    if fit.overrides:
        lines += ["", f"[{section}.facts]"]
    left = list(fit.contradicted)
    for fact, value in fit.overrides.items():
        reasons = [finding for finding in left if fact in finding.facts]
        left = [finding for finding in left if finding not in reasons]
        lines += [f"# {finding.evidence}" for finding in reasons]
        lines += toml_lines({fact: _brief(value, getattr(fit.corrected, fact))})
    return lines


def _brief(value: Any, fact: object) -> Any:  # noqa: ANN401 - JSON
    """The JSON value of a fact, without entries that are the default of its type."""
    if not isinstance(fact, Struct):
        return value
    defaults = {
        field.name: field.default
        for field in msgspec.structs.fields(fact)
        if field.default is not msgspec.NODEFAULT
    }
    return {
        name: one
        for name, one in value.items()
        if name not in defaults or getattr(fact, name) != defaults[name]
    }


def printed_dialect(fit: Fit, model: str) -> Dialect:
    """The dialect that the service makes of the printed settings of a fit."""
    lines = settings_lines(fit, name="up", base_url="http://upstream", api_key_env=None)
    upstream = read_table(tomllib.loads("\n".join(lines)), {}).upstreams["up"]
    return resolve_dialect(upstream.dialect, model, upstream.facts)


def _toml(text: str) -> str:
    return msgspec.json.encode(text).decode()
