"""Findings: each is an observation about one fact of a dialect.

A finding decides whether a dialect agrees with it, and corrects one that does not. Support for a
feature is proven by its effect; lack of support by a rejection in words, or by an effect that
contradicts it. Anything else is no finding. A dialect that is stricter than necessary agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from translator.common.schemas import SchemaRules
from translator.common.toml import toml_lines
from translator.dialects.dialect import ChoiceKind, Dialect
from translator.dialects.think_tags import Tags
from translator.wire.json_values import as_object

ROUNDS = 3
"""A correction can make another fact matter, so all findings are applied this many times."""


class Finding(Struct, frozen=True, kw_only=True):
    """An observation. `evidence` describes it in one line.

    `weak`: it may hold for this model only, may be chance, or a dialect with another value works as
    well. It corrects a dialect but does not count when dialects are ranked.
    """

    evidence: str
    weak: bool = False

    @property
    def fact(self) -> str:
        """The name of the fact."""
        raise NotImplementedError

    @property
    def facts(self) -> tuple[str, ...]:
        """All facts that `corrected` may change."""
        return (self.fact,)

    @property
    def seen(self) -> str:
        """The observed value, as in `images = false`."""
        raise NotImplementedError

    def agrees(self, dialect: Dialect) -> bool:
        """Whether the dialect is consistent with it."""
        raise NotImplementedError

    def corrected(self, dialect: Dialect) -> Dialect:
        """A copy of the dialect that agrees."""
        raise NotImplementedError


class FactValue(Finding, frozen=True, kw_only=True):
    """A fact has one of some values; the first one corrects a dialect."""

    name: str
    values: tuple[Any, ...]

    @property
    def fact(self) -> str:
        return self.name

    @property
    def seen(self) -> str:
        return toml_lines({self.name: self.values[0]})[0]

    def agrees(self, dialect: Dialect) -> bool:
        return getattr(dialect, self.name) in self.values

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, **{self.name: self.values[0]})


class ThinksByDefault(Finding, frozen=True, kw_only=True):
    """The model thinks, or does not, when the request does not mention thinking."""

    by_default: bool

    @property
    def fact(self) -> str:
        return "thinks_by_default"

    @property
    def seen(self) -> str:
        return toml_lines({self.fact: self.by_default})[0]

    def agrees(self, dialect: Dialect) -> bool:
        """True also where no other fact depends on it: then it is a property of the model."""
        matters = (
            dialect.tool_choices_thinking is not None
            or dialect.reasoning_required
            or dialect.extra_content_required is not None
        )
        return dialect.thinks_by_default == self.by_default or not matters

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, thinks_by_default=self.by_default)


class SetMember(Finding, frozen=True, kw_only=True):
    """A fact that is a set contains a member, or does not."""

    name: str
    member: str
    present: bool

    @property
    def fact(self) -> str:
        return self.name

    @property
    def seen(self) -> str:
        return f"{self.name}: {'' if self.present else 'not '}{self.member}"

    def agrees(self, dialect: Dialect) -> bool:
        return (self.member in getattr(dialect, self.name)) == self.present

    def corrected(self, dialect: Dialect) -> Dialect:
        members: frozenset[str] = getattr(dialect, self.name)
        one = {self.member}
        return replace(dialect, **{self.name: members | one if self.present else members - one})


class ToolChoice(Finding, frozen=True, kw_only=True):
    """A kind of `tool_choice` works, or not: with thinking on, with thinking off, or always."""

    kind: ChoiceKind
    accepted: bool
    when: Literal["thinking", "not thinking", "always"]

    @property
    def fact(self) -> str:
        return "tool_choices_thinking" if self.when == "thinking" else "tool_choices"

    @property
    def facts(self) -> tuple[str, ...]:
        return "tool_choices", "tool_choices_thinking"

    @property
    def seen(self) -> str:
        return f"{self.fact}: {'' if self.accepted else 'not '}{self.kind}"

    def agrees(self, dialect: Dialect) -> bool:
        plain, thinking = dialect.tool_choices, _while_thinking(dialect)
        return all(
            (self.kind in kinds) == self.accepted
            for kinds, when in ((thinking, "thinking"), (plain, "not thinking"))
            if self.when in (when, "always")
        )

    def corrected(self, dialect: Dialect) -> Dialect:
        plain, thinking = dialect.tool_choices, _while_thinking(dialect)
        if self.when != "thinking":
            plain = self._with(plain)
        if self.when != "not thinking":
            thinking = self._with(thinking)
        same = dialect.tool_choices_thinking is None and self.when != "thinking"
        return replace(
            dialect,
            tool_choices=plain,
            tool_choices_thinking=None if same or plain == thinking else thinking,
        )

    def _with(self, kinds: frozenset[ChoiceKind]) -> frozenset[ChoiceKind]:
        one: frozenset[ChoiceKind] = frozenset({self.kind})
        return kinds | one if self.accepted else kinds - one


def _while_thinking(dialect: Dialect) -> frozenset[ChoiceKind]:
    thinking = dialect.tool_choices_thinking
    return dialect.tool_choices if thinking is None else thinking


class ThinkTags(Finding, frozen=True, kw_only=True):
    """The text begins with reasoning, in a pair of tags or up to a closing tag."""

    pair: tuple[str, str]
    opened_by_template: bool = False
    stray_close: bool = False

    @property
    def fact(self) -> str:
        return "think_tags"

    @property
    def seen(self) -> str:
        form = "only a closing tag" if self.opened_by_template or self.stray_close else "tags"
        return f"think_tags: {form}, {' '.join(self.pair)}"

    def agrees(self, dialect: Dialect) -> bool:
        tags = dialect.think_tags
        return (
            tags is not None
            and self.pair in tags.pairs
            and tags.opened_by_template == self.opened_by_template
            and (tags.stray_close or not self.stray_close)
        )

    def corrected(self, dialect: Dialect) -> Dialect:
        tags = Tags(
            (self.pair,),
            opened_by_template=self.opened_by_template,
            stray_close=self.stray_close,
        )
        return replace(dialect, think_tags=tags)


class ThinkingSwitch(Finding, frozen=True, kw_only=True):
    """Fields that switched thinking off (level `none`) or on (`high`).

    `works` holds every variant that worked, `unknown` those that nothing is known of; `instead` the
    efforts for a dialect that uses none of them.
    """

    level: str
    works: Sequence[Mapping[str, Any]]
    instead: Mapping[str, Mapping[str, Any]]
    unknown: Sequence[Mapping[str, Any]] = ()

    @property
    def fact(self) -> str:
        return "efforts"

    @property
    def seen(self) -> str:
        return ", or ".join(
            f"efforts.{self.level} = {msgspec.json.encode(fields).decode()}"
            for fields in self.works
        )

    def agrees(self, dialect: Dialect) -> bool:
        fields = dialect.efforts.get(self.level, {})
        return any(_share(fields, ways) for ways in (*self.works, *self.unknown))

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, efforts=self.instead)


def _share(fields: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two objects have a value in common, at any depth."""
    for name in fields.keys() & others.keys():
        inner, other = as_object(fields[name]), as_object(others[name])
        if inner is not None and other is not None:
            if _share(inner, other):
                return True
        elif fields[name] == others[name]:
            return True
    return False


class EffortRejected(Finding, frozen=True, kw_only=True):
    """The fields in `ways`, for one level of effort, are rejected."""

    level: str
    ways: Sequence[Mapping[str, Any]]

    @property
    def fact(self) -> str:
        return "efforts"

    @property
    def seen(self) -> str:
        ways = (msgspec.json.encode(fields).decode() for fields in self.ways)
        return f"efforts.{self.level}: not {', '.join(ways)}"

    def agrees(self, dialect: Dialect) -> bool:
        fields = dialect.efforts.get(self.level, {})
        return not any(_share(fields, rejected) for rejected in self.ways)

    def corrected(self, dialect: Dialect) -> Dialect:
        kept = {name: fields for name, fields in dialect.efforts.items() if name != self.level}
        return replace(dialect, efforts=kept)


class EffortFieldRejected(Finding, frozen=True, kw_only=True):
    """A field that controls thinking is rejected, whatever its value."""

    name: str

    @property
    def fact(self) -> str:
        return "efforts"

    @property
    def seen(self) -> str:
        return f"efforts: no {self.name}"

    def agrees(self, dialect: Dialect) -> bool:
        return not any(self.name in fields for fields in dialect.efforts.values())

    def corrected(self, dialect: Dialect) -> Dialect:
        efforts = {
            level: {name: value for name, value in fields.items() if name != self.name}
            for level, fields in dialect.efforts.items()
        }
        return replace(dialect, efforts={level: kept for level, kept in efforts.items() if kept})


ReplayResult = Literal["read", "ignored", "taken", "refused", "unknown"]
"""`taken`: accepted, and nothing shows whether it is read. `unknown`: nobody answered."""


_HARMLESS = ("taken", "ignored")


class ReasoningReplay(Finding, frozen=True, kw_only=True):
    """What the upstream does with reasoning in the history, by the field that holds it.

    `source_field` is the field in which reasoning arrives from the upstream.
    """

    fields: Mapping[str, ReplayResult]
    source_field: str | None = None

    @property
    def fact(self) -> str:
        return "reasoning_replay"

    @property
    def facts(self) -> tuple[str, ...]:
        return "reasoning_replay", "reasoning_field"

    @property
    def seen(self) -> str:
        known = (pair for pair in self.fields.items() if pair[1] != "unknown")
        return ", ".join(f"{name} is {result}" for name, result in known)

    def agrees(self, dialect: Dialect) -> bool:
        results = self.fields.values()
        if dialect.reasoning_replay == "drop":
            return "read" not in results
        if dialect.reasoning_field is None and "refused" in results:
            return False  # reasoning from another upstream would go back in the other field
        field = dialect.reasoning_field or self.source_field or "reasoning_content"
        result = self.fields.get(field)
        sure = result in ("read", "unknown")
        return sure or (result != "refused" and "read" not in results)

    def corrected(self, dialect: Dialect) -> Dialect:
        usable = [field for field, result in self.fields.items() if result == "read"]
        usable = usable or [f for f, result in self.fields.items() if result in _HARMLESS]
        if not usable:
            return replace(dialect, reasoning_replay="drop")
        field = self.source_field if self.source_field in usable else usable[0]
        return replace(dialect, reasoning_replay="as_it_came", reasoning_field=field)


class ExtraFields(Finding, frozen=True, kw_only=True):
    """Fields that every request should contain."""

    fields: Mapping[str, Any]

    @property
    def fact(self) -> str:
        return "extra"

    @property
    def seen(self) -> str:
        return toml_lines({"extra": self.fields})[0]

    def agrees(self, dialect: Dialect) -> bool:
        return self.fields.items() <= dialect.extra.items()

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, extra={**dialect.extra, **self.fields})


class ExtraFieldRejected(Finding, frozen=True, kw_only=True):
    """A field that some upstreams need in every request is rejected."""

    name: str

    @property
    def fact(self) -> str:
        return "extra"

    @property
    def seen(self) -> str:
        return f"extra: no {self.name}"

    def agrees(self, dialect: Dialect) -> bool:
        return self.name not in dialect.extra

    def corrected(self, dialect: Dialect) -> Dialect:
        kept = {name: value for name, value in dialect.extra.items() if name != self.name}
        return replace(dialect, extra=kept)


class SchemaLimit(Finding, frozen=True, kw_only=True):
    """A part of JSON Schema is rejected: lists of types, or a keyword."""

    keyword: str = ""

    @property
    def fact(self) -> str:
        return "schema_rules"

    @property
    def seen(self) -> str:
        return f"schema_rules: no {self.keyword or 'lists of types'}"

    def agrees(self, dialect: Dialect) -> bool:
        rules = dialect.schema_rules
        if rules is None:
            return False
        return self.keyword in rules.dropped if self.keyword else rules.type_lists != "keep"

    def corrected(self, dialect: Dialect) -> Dialect:
        rules = dialect.schema_rules or SchemaRules()
        if self.keyword:
            rules = replace(rules, dropped=rules.dropped | {self.keyword})
        else:
            rules = replace(rules, type_lists="any_of")
        return replace(dialect, schema_rules=rules)


def contradicted(dialect: Dialect, findings: Sequence[Finding]) -> list[Finding]:
    """The findings that contradict a dialect."""
    return [finding for finding in findings if not finding.agrees(dialect)]


def corrected(dialect: Dialect, findings: Sequence[Finding]) -> Dialect:
    """A copy of a dialect that agrees with all findings."""
    for _ in range(ROUNDS):
        for finding in findings:
            if not finding.agrees(dialect):
                dialect = finding.corrected(dialect)
    return dialect
