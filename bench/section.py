"""A section of the report, and the facts in it that targets are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

Facts = Mapping[tuple[str, str], float]
"""What was measured, by its name and by whose it is, as in ("us_per_token 200", "translator")."""

OURS = "translator"
NGINX = "nginx, unmodified"
LITELLM = "LiteLLM proxy"
DIRECT = "direct"
"""The load client at the mock upstream, with nothing between them."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One table, with what a reader has to know of it."""

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
