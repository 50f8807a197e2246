"""Which dialect fits what was found, and the lines of settings that say so.

The closest dialect is the one that the fewest findings contradict. Of equals, the one whose host
this is comes first; then the one whose marks were seen; then the one with the fewest facts to
correct; then the one that assumes the least.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from translator.common.toml import toml_key
from translator.dialects import BASE, DIALECTS, Dialect, known_host
from translator.dialects.table import fact_lines, own_facts

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
"""What the servers behind a dialect put into their answers: keys of a chunk, parts of its
fingerprint, the owner of their models. Others relay some of these, so they only tell equals apart.
"""


class Fit(Struct, frozen=True):
    """How well a dialect fits."""

    dialect: Dialect
    """With its facts of the model put in, before any correction."""
    right: Dialect
    """The same, corrected: exactly what was found, and what it says of all else."""
    contradicted: list[Finding]

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def distance(self) -> int:
        """How many findings contradict it that tell dialects apart."""
        return sum(not finding.weak for finding in self.contradicted)

    @property
    def overrides(self) -> dict[str, Any]:
        """The facts to give in the settings, as JSON knows values."""
        return own_facts(self.right, self.dialect)


def ranked(
    findings: Sequence[Finding],
    *,
    model: str,
    base_url: str,
    marks: Collection[str] = (),
    only: str | None = None,
) -> list[Fit]:
    """All dialects, or `only` one, the one that fits best first."""
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

    return [fits[name] for name in sorted(names, key=order)]


def _fit(dialect: Dialect, findings: Sequence[Finding]) -> Fit:
    dialect = msgspec.structs.replace(dialect, models=())
    return Fit(dialect, corrected(dialect, findings), contradicted(dialect, findings))


def marked(name: str, marks: Collection[str]) -> list[str]:
    """The marks of a dialect among those that were seen."""
    return [
        seen
        for known in MARKS.get(name, ())
        for seen in marks
        if seen == known or (":" in known and _inside(known, seen))
    ]


def _inside(known: str, seen: str) -> bool:
    place, _, word = known.partition(":")
    return seen.startswith(f"{place}:") and word in seen


def settings_lines(
    fit: Fit, *, name: str, base_url: str, api_key_env: str | None, given: Sequence[str] = ()
) -> list[str]:
    """`[upstreams.NAME]` and its facts, in TOML; `given` are lines that stand there as they are."""
    section = f"upstreams.{toml_key(name)}"
    lines = [f"[{section}]", f"base_url = {_text(base_url)}"]
    if api_key_env is not None:
        lines.append(f"api_key_env = {_text(api_key_env)}")
    lines += [f"dialect = {_text(fit.name)}", *given]
    if fit.overrides:
        lines += ["", f"[{section}.facts]"]
    left = list(fit.contradicted)
    for fact, value in fit.overrides.items():
        told = [finding for finding in left if fact in finding.facts]
        left = [finding for finding in left if finding not in told]
        lines += [f"# {finding.evidence}" for finding in told]
        lines += fact_lines({fact: value})
    return lines


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()
