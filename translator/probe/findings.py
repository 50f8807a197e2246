"""What an answer means: findings, each about one fact of a dialect.

A finding knows whether a dialect agrees with what was seen, and how a dialect must be corrected
that does not. A yes is an effect that was seen; a no is a refusal in words, or an effect that
contradicts. Everything else is no finding. A dialect that is more careful than was needed agrees.
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
"""A correction can make another fact matter; so often all findings are gone through."""


class Finding(Struct, frozen=True, kw_only=True):
    """Something that was seen. `evidence` is what was seen, in one line.

    `weak`: it may hold for this model only, or be chance, or a dialect that has it otherwise works
    as well: so it tells no dialects apart.
    """

    evidence: str
    weak: bool = False

    @property
    def fact(self) -> str:
        """The fact of a dialect that it is about."""
        raise NotImplementedError

    @property
    def facts(self) -> tuple[str, ...]:
        """All facts that it may correct."""
        return (self.fact,)

    @property
    def seen(self) -> str:
        """What it says of that fact."""
        raise NotImplementedError

    def holds(self, dialect: Dialect) -> bool:
        """Whether the dialect agrees."""
        raise NotImplementedError

    def corrected(self, dialect: Dialect) -> Dialect:
        """The dialect, so that it agrees."""
        raise NotImplementedError


class Is(Finding, frozen=True, kw_only=True):
    """A fact has one of some values; the first is the one that is put in."""

    name: str
    values: tuple[Any, ...]

    @property
    def fact(self) -> str:
        return self.name

    @property
    def seen(self) -> str:
        return toml_lines({self.name: self.values[0]})[0]

    def holds(self, dialect: Dialect) -> bool:
        return getattr(dialect, self.name) in self.values

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, **{self.name: self.values[0]})


class Thinks(Finding, frozen=True, kw_only=True):
    """It thinks, or does not, when nothing is said of it."""

    by_default: bool

    @property
    def fact(self) -> str:
        return "thinks_by_default"

    @property
    def seen(self) -> str:
        return toml_lines({self.fact: self.by_default})[0]

    def holds(self, dialect: Dialect) -> bool:
        """True too where nothing depends on it: then it is a fact about the model."""
        matters = (
            dialect.tool_choices_thinking is not None
            or dialect.reasoning_required
            or dialect.extra_content_required is not None
        )
        return dialect.thinks_by_default == self.by_default or not matters

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, thinks_by_default=self.by_default)


class Member(Finding, frozen=True, kw_only=True):
    """A set of names holds one, or does not."""

    name: str
    member: str
    there: bool

    @property
    def fact(self) -> str:
        return self.name

    @property
    def seen(self) -> str:
        return f"{self.name}: {'' if self.there else 'not '}{self.member}"

    def holds(self, dialect: Dialect) -> bool:
        return (self.member in getattr(dialect, self.name)) == self.there

    def corrected(self, dialect: Dialect) -> Dialect:
        members: frozenset[str] = getattr(dialect, self.name)
        one = {self.member}
        return replace(dialect, **{self.name: members | one if self.there else members - one})


class Choice(Finding, frozen=True, kw_only=True):
    """A kind of `tool_choice` is taken, or not: while it thinks, while it does not, or always."""

    kind: ChoiceKind
    taken: bool
    when: Literal["thinking", "not thinking", "always"]

    @property
    def fact(self) -> str:
        return "tool_choices_thinking" if self.when == "thinking" else "tool_choices"

    @property
    def facts(self) -> tuple[str, ...]:
        return "tool_choices", "tool_choices_thinking"

    @property
    def seen(self) -> str:
        return f"{self.fact}: {'' if self.taken else 'not '}{self.kind}"

    def holds(self, dialect: Dialect) -> bool:
        plain, thinking = dialect.tool_choices, _while_thinking(dialect)
        return all(
            (self.kind in kinds) == self.taken
            for kinds, asked in ((thinking, "thinking"), (plain, "not thinking"))
            if self.when in (asked, "always")
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
        return kinds | one if self.taken else kinds - one


def _while_thinking(dialect: Dialect) -> frozenset[ChoiceKind]:
    thinking = dialect.tool_choices_thinking
    return dialect.tool_choices if thinking is None else thinking


class Tagged(Finding, frozen=True, kw_only=True):
    """The text begins with reasoning, between tags or up to the closing one."""

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

    def holds(self, dialect: Dialect) -> bool:
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


class Switched(Finding, frozen=True, kw_only=True):
    """How thinking is switched off (level `none`) or on (`high`): every way that worked.

    `instead` are the levels to put in where the dialect's way is none of them.
    """

    level: str
    works: Sequence[Mapping[str, Any]]
    instead: Mapping[str, Mapping[str, Any]]

    @property
    def fact(self) -> str:
        return "efforts"

    @property
    def seen(self) -> str:
        return ", or ".join(
            f"efforts.{self.level} = {msgspec.json.encode(fields).decode()}"
            for fields in self.works
        )

    def holds(self, dialect: Dialect) -> bool:
        fields = dialect.efforts.get(self.level, {})
        return any(_share(fields, works) for works in self.works)

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, efforts=self.instead)


def _share(fields: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two objects have a value in common, however deep."""
    for name in fields.keys() & others.keys():
        inner, other = as_object(fields[name]), as_object(others[name])
        if inner is not None and other is not None:
            if _share(inner, other):
                return True
        elif fields[name] == others[name]:
            return True
    return False


class NotSent(Finding, frozen=True, kw_only=True):
    """Some ways to ask for a level of effort are refused."""

    level: str
    ways: Sequence[Mapping[str, Any]]

    @property
    def fact(self) -> str:
        return "efforts"

    @property
    def seen(self) -> str:
        ways = (msgspec.json.encode(fields).decode() for fields in self.ways)
        return f"efforts.{self.level}: not {', '.join(ways)}"

    def holds(self, dialect: Dialect) -> bool:
        fields = dialect.efforts.get(self.level, {})
        return not any(_share(fields, refused) for refused in self.ways)

    def corrected(self, dialect: Dialect) -> Dialect:
        kept = {name: fields for name, fields in dialect.efforts.items() if name != self.level}
        return replace(dialect, efforts=kept)


class NoEffortField(Finding, frozen=True, kw_only=True):
    """A field that steers thinking is refused, whatever its value."""

    name: str

    @property
    def fact(self) -> str:
        return "efforts"

    @property
    def seen(self) -> str:
        return f"efforts: no {self.name}"

    def holds(self, dialect: Dialect) -> bool:
        return not any(self.name in fields for fields in dialect.efforts.values())

    def corrected(self, dialect: Dialect) -> Dialect:
        efforts = {
            level: {name: value for name, value in fields.items() if name != self.name}
            for level, fields in dialect.efforts.items()
        }
        return replace(dialect, efforts={level: kept for level, kept in efforts.items() if kept})


Back = Literal["read", "ignored", "taken", "refused"]


class Replays(Finding, frozen=True, kw_only=True):
    """What becomes of reasoning that goes back, by the field that it goes back in.

    `came_in` is the field in which the upstream gives it.
    """

    fields: Mapping[str, Back]
    came_in: str | None = None

    @property
    def fact(self) -> str:
        return "reasoning_replay"

    @property
    def facts(self) -> tuple[str, ...]:
        return "reasoning_replay", "reasoning_field"

    @property
    def seen(self) -> str:
        return ", ".join(f"{name} is {what}" for name, what in self.fields.items())

    def holds(self, dialect: Dialect) -> bool:
        results = self.fields.values()
        if dialect.reasoning_replay == "drop":
            return "read" not in results
        if dialect.reasoning_field is None and "refused" in results:
            return False  # reasoning of another upstream would come in the other field
        field = dialect.reasoning_field or self.came_in or "reasoning_content"
        result = self.fields.get(field)
        return result == "read" or (result != "refused" and "read" not in results)

    def corrected(self, dialect: Dialect) -> Dialect:
        usable = [field for field, what in self.fields.items() if what == "read"]
        usable = usable or [field for field, what in self.fields.items() if what != "refused"]
        if not usable:
            return replace(dialect, reasoning_replay="drop")
        field = self.came_in if self.came_in in usable else usable[0]
        return replace(dialect, reasoning_replay="as_it_came", reasoning_field=field)


class Carries(Finding, frozen=True, kw_only=True):
    """Fields that every request should carry."""

    fields: Mapping[str, Any]

    @property
    def fact(self) -> str:
        return "extra"

    @property
    def seen(self) -> str:
        return toml_lines({"extra": self.fields})[0]

    def holds(self, dialect: Dialect) -> bool:
        return self.fields.items() <= dialect.extra.items()

    def corrected(self, dialect: Dialect) -> Dialect:
        return replace(dialect, extra={**dialect.extra, **self.fields})


class Schemas(Finding, frozen=True, kw_only=True):
    """A part of JSON Schema is refused: lists of types, or a keyword."""

    keyword: str = ""

    @property
    def fact(self) -> str:
        return "schema_rules"

    @property
    def seen(self) -> str:
        return f"schema_rules: no {self.keyword or 'lists of types'}"

    def holds(self, dialect: Dialect) -> bool:
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
    """The findings that a dialect does not agree with."""
    return [finding for finding in findings if not finding.holds(dialect)]


def corrected(dialect: Dialect, findings: Sequence[Finding]) -> Dialect:
    """A dialect with what was seen put in."""
    for _ in range(ROUNDS):
        for finding in findings:
            if not finding.holds(dialect):
                dialect = finding.corrected(dialect)
    return dialect
