"""Verdict: the dialects ranked by the findings, and the settings of the best one.

    order = fewest contradictions, host, marks, fewest facts to correct, fewest facts of its own ;

The best dialect is the one that the fewest findings contradict. The other criteria decide between
equals: a dialect known for this host, or whose marks were seen, comes first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from translator.common.toml import toml_key, toml_lines
from translator.dialects import BASE, DIALECTS, Dialect, candidates, known_host
from translator.dialects.table import own_facts

from .findings import Finding, contradicted, corrected

MARKS: Mapping[str, tuple[str, ...]] = {
    "azure": ("chunk.prompt_filter_results", "choice.content_filter_results"),
    "cerebras": ("chunk.time_info",),
    "deepseek": ("usage.prompt_cache_hit_tokens",),
    "fireworks": ("chunk.perf_metrics", "choice.raw_output"),
    "gemini": ("extra_content",),
    "groq": ("chunk.x_groq",),
    "llama_cpp": ("chunk.timings", "owner:llamacpp"),
    "lm_studio": ("chunk.stats", "owner:organization_owner"),
    "minimax": ("chunk.base_resp", "chunk.input_sensitive", "delta.audio_content"),
    "mistral": ("part.thinking", "owner:mistralai"),
    "moonshot": ("fingerprint:fpv0_", "owner:moonshot", "choice.usage"),
    "ollama": ("fingerprint:fp_ollama", "owner:library"),
    "openrouter": ("choice.native_finish_reason",),
    "sglang": ("choice.matched_stop", "owner:sglang"),
    "tgi": ("fingerprint:-native",),
    "together": ("choice.seed", "delta.token_id"),
    "vllm": ("choice.stop_reason", "owner:vllm"),
    "xai": ("usage.num_sources_used", "usage.cost_in_usd_ticks"),
}
"""Marks of the servers behind each dialect: keys of a chunk, parts of its fingerprint, the owner of
the models. Gateways relay some of them, so they only decide between equals.
"""


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
    host = known_host(urlsplit(base_url).hostname or "")
    names = list(DIALECTS) if only is None else [only]
    fits = {name: _fit(DIALECTS[name].for_model(model), findings) for name in names}

    def order(name: str) -> tuple[int, bool, bool, int, int]:
        fit = fits[name]
        return (
            fit.distance,
            name != host or name == BASE.name,
            not marked(name, marks),
            len({finding.fact for finding in fit.contradicted if not finding.weak}),
            len(own_facts(DIALECTS[name])),
        )

    likely = candidates(host)
    return [
        fits[name] for name in sorted(names, key=lambda name: (name not in likely, order(name)))
    ]


def _fit(dialect: Dialect, findings: Sequence[Finding]) -> Fit:
    dialect = msgspec.structs.replace(dialect, models=())
    return Fit(dialect, corrected(dialect, findings), contradicted(dialect, findings))


def marked(name: str, marks: Collection[str]) -> list[str]:
    """The marks that belong to a dialect, sorted."""
    return sorted(
        {
            mark
            for known in MARKS.get(name, ())
            for mark in marks
            if mark == known or (":" in known and _contains(known, mark))
        }
    )


def _contains(known: str, mark: str) -> bool:
    """Whether a mark has the kind and the word of a known one, as in `owner:vllm`."""
    kind, _, word = known.partition(":")
    return mark.startswith(f"{kind}:") and word in mark


def settings_lines(
    fit: Fit, *, name: str, base_url: str, api_key_env: str | None, given: Sequence[str] = ()
) -> list[str]:
    """`[upstreams.NAME]` and its facts, in TOML; `given` lines are added to the section."""
    section = f"upstreams.{toml_key(name)}"
    lines = [f"[{section}]", f"base_url = {_toml(base_url)}"]
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
        lines += toml_lines({fact: value})
    return lines


def _toml(text: str) -> str:
    return msgspec.json.encode(text).decode()
