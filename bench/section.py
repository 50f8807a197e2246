"""A section of the report: a table, remarks, and the facts that targets are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

Facts = Mapping[tuple[str, str], float]
"""Figures by measure and program, as in ("us_per_token 200", "translator")."""

OURS = "translator"
NGINX = "nginx, unmodified"
LITELLM = "LiteLLM proxy"
CODEX_RELAY = "codex-relay"
SWITCHYARD = "nemo-switchyard"
DIRECT = "direct"
"""The load client and the mock upstream, without a target between them."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One table, with remarks."""

    title: str
    table: str
    remarks: Sequence[str] = ()
    facts: Facts = {}

    def markdown(self) -> str:
        remarks = "".join(f"{remark}\n\n" for remark in self.remarks)
        return f"### {self.title}\n\n{self.table}\n{remarks}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is a number and stands to the right."""
    rule = ("---", *("---:" for _ in head[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))
