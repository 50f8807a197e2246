"""The topics of an interview that are about tools: calls, which of them, and their history."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Literal

from translator.dialects.dialect import ChoiceKind

from . import payloads
from .findings import Back, Choice, Replays, Schemas
from .payloads import Fields
from .replies import Refused, Reply, Taken, quoted
from .state import Asking, Notebook

_THINKING = re.compile(r"think|reasoning", re.IGNORECASE)


def tools(book: Notebook) -> Asking[int | None]:
    """How many calls came; None when tools cannot be asked about at all."""
    trial = yield from book.attempt(
        "tools",
        {
            "strict": r"\bstrict\b",
            "type list": r"\btype\b.{0,20}(?:must be a string|list|array|string)",
            "$schema": r"\$schema",
        },
        lambda more: book.body(payloads.WEATHER, tools=[payloads.tool(more)]),
        whole=True,
    )
    reply = trial.reply
    if reply is None:
        outcome = yield from book.ask(
            "plain tools", book.body(payloads.WEATHER, tools=payloads.TOOLS), words=r"\btools?\b"
        )
        if isinstance(outcome, Refused):
            book.notes.append(f"Tools are refused: {quoted(outcome.text)}")
        if not isinstance(outcome, Taken):
            return None
        reply = outcome.reply
    for name, text in trial.refused.items():
        evidence = f"in a tool, {name} was refused: {quoted(text)}"
        match name:
            case "strict":
                book.fact("strict_functions", False, evidence=evidence)
            case "type list":
                book.findings.append(Schemas(evidence=evidence))
            case _:
                book.findings.append(Schemas(keyword=name, evidence=evidence))
    if not reply.calls:
        if reply.written_calls:
            evidence = f"calls stood in the text: {quoted(reply.text, 60)}"
            book.fact("recover_calls", True, evidence=evidence)
        book.not_seen("tool calls", "no call came, though the model was asked for two")
    elif reply.finish is None and not reply.done:
        evidence = "an answer with calls ended without a finish reason and without [DONE]"
        book.fact("lenient_eof", True, evidence=evidence)
    return len(reply.calls)


def parallel(book: Notebook, calls: int) -> Asking[None]:
    topic = "parallel_tool_calls"
    body = book.body(payloads.WEATHER, tools=payloads.TOOLS, parallel_tool_calls=False)
    outcome = yield from book.ask(topic, body)
    if isinstance(outcome, Refused):
        book.fact(topic, False, evidence=f"it was refused: {quoted(outcome.text)}")
    elif isinstance(outcome, Taken):
        now = len(outcome.reply.calls)
        if not calls:
            book.not_seen(topic, "no calls came to tell by")
        elif now > 1:
            book.fact(topic, False, evidence=f"{now} calls came although it was false")
        elif now == 1 and calls > 1:
            book.fact(topic, True, evidence=f"one call came instead of {calls}", weak=True)
        else:
            book.not_seen(topic, "taken, but no difference could be seen")


def format_beside(book: Notebook, calls: int) -> Asking[None]:
    """Whether a schema is followed beside tools, and leaves calls possible.

    Where it is a grammar over the whole answer, a call cannot be written any more.
    """
    topic = "response_format beside tools"
    beside: Fields = {"response_format": payloads.JSON_SCHEMA, "tools": payloads.TOOLS}
    outcome = yield from book.ask(topic, book.body(payloads.WEATHER, **beside))
    if isinstance(outcome, Refused):
        evidence = f"{topic} was refused: {quoted(outcome.text)}"
        book.fact("response_format_with_tools", False, evidence=evidence)
    elif isinstance(outcome, Taken):
        reply = outcome.reply
        if calls and not reply.calls and payloads.SCHEMA_KEY in (reply.json or {}):
            evidence = f"instead of {calls} calls came {quoted(reply.text, 60)}"
            book.fact("response_format_with_tools", False, evidence=evidence)
        elif not reply.calls:
            book.not_seen(topic, "taken, but neither a call nor the schema could be seen")
        else:
            yield from _format_without_call(book, topic, beside)


def _format_without_call(book: Notebook, topic: str, beside: Fields) -> Asking[None]:
    outcome = yield from book.ask(topic, book.body(payloads.CAPITAL_WITHOUT_TOOLS, **beside))
    if isinstance(outcome, Taken):
        if payloads.SCHEMA_KEY in (outcome.reply.json or {}):
            evidence = "beside tools, the schema was followed, and calls came where they should"
            book.fact("response_format_with_tools", True, evidence=evidence)
        else:
            book.not_seen(topic, "taken, but the answer did not follow the schema")


def choices(book: Notebook, calls: int) -> Asking[None]:
    forced: tuple[tuple[ChoiceKind, Any], ...] = (
        ("required", "required"),
        ("named", payloads.NAMED),
    )
    ignored: list[ChoiceKind] = []
    for kind, choice in forced:
        if (yield from _forced(book, kind, choice)):
            ignored.append(kind)
    topic = "tool_choice none"
    body = book.body(payloads.WEATHER, tools=payloads.TOOLS, tool_choice="none")
    outcome = yield from book.ask(topic, body)
    if isinstance(outcome, Refused):
        evidence = f"it was refused: {quoted(outcome.text)}"
        _choice(book, "none", False, evidence)
    elif isinstance(outcome, Taken):
        if outcome.reply.calls:
            _choice(book, "none", False, f"{len(outcome.reply.calls)} calls came all the same")
        elif calls:
            _choice(book, "none", True, "the calls that came without it did not come")
        else:
            book.not_seen(topic, "no calls came to tell by")
    if ignored:
        topic = "a tool_choice that does not exist"
        body = book.body(
            payloads.GREETING, tools=payloads.TOOLS, tool_choice=payloads.NO_SUCH_CHOICE
        )
        outcome = yield from book.ask(topic, body, whole=False)
        for kind in ignored:
            if isinstance(outcome, Taken):
                evidence = "no call came, and a choice that does not exist was taken as well"
                _choice(book, kind, False, evidence)
            else:
                book.not_seen(f"tool_choice {kind}", "taken, but no call came")


def _forced(book: Notebook, kind: ChoiceKind, choice: object) -> Asking[bool]:
    """Ask for a call where none is needed. True when it was taken, and no call came."""
    topic = f"tool_choice {kind}"
    body = book.body(payloads.GREETING, tools=payloads.TOOLS, tool_choice=choice)
    outcome = yield from book.ask(topic, body)
    if isinstance(outcome, Taken):
        if outcome.reply.calls:
            _choice(book, kind, True, "a call came where none was needed")
        elif outcome.reply.cut:
            book.not_seen(topic, "the answer was cut at the token limit")
        else:
            return True
    elif isinstance(outcome, Refused):
        yield from _refused_choice(book, kind, body, outcome.text)
    return False


def _refused_choice(book: Notebook, kind: ChoiceKind, body: Fields, text: str) -> Asking[None]:
    """Find out whether another word, or no thinking, makes a choice acceptable."""
    evidence = f"it was refused: {quoted(text)}"
    if kind == "required":
        outcome = yield from book.ask("tool_choice any", body | {"tool_choice": "any"})
        if isinstance(outcome, Taken) and outcome.reply.calls:
            book.fact("required_word", "any", evidence="required was refused, any was taken")
            _choice(book, "required", True, "a call came where none was needed")
            return
    if not book.thinks:
        _choice(book, kind, False, evidence)
    elif book.off is None:
        _choice(book, kind, False, evidence, "thinking" if _THINKING.search(text) else "always")
    else:
        topic = f"tool_choice {kind}, thinking off"
        outcome = yield from book.ask(topic, body | book.off)
        if isinstance(outcome, Refused):
            _choice(book, kind, False, evidence, "always")
            return
        _choice(book, kind, False, evidence, "thinking")
        if isinstance(outcome, Taken) and outcome.reply.calls:
            yes = "with thinking off, a call came where none was needed"
            _choice(book, kind, True, yes, "not thinking")


def _choice(
    book: Notebook,
    kind: ChoiceKind,
    taken: bool,
    evidence: str,
    when: Literal["thinking", "not thinking", "always"] | None = None,
) -> None:
    # What is taken or refused while it thinks, in words that do not speak of that, is so without.
    when = when or ("always" if book.thinks else "not thinking")
    evidence = f"tool_choice {kind}: {evidence}"
    book.findings.append(Choice(kind=kind, taken=taken, when=when, evidence=evidence))


def history(book: Notebook) -> Asking[None]:
    trial = yield from book.attempt(
        "calls in the history",
        {
            "id": r"tool.?call.?id|length of 9|a-z, A-Z, 0-9",
            "user": r"after role 'tool'",
            "bare": r"(?<![\w`])content(?! and)\b",
            "unreasoned": r"reasoning_(?:content|text)|without reasoning",
            "unsigned": r"thought_signature",
        },
        lambda liberties: book.body(payloads.history(liberties), tools=payloads.TOOLS),
        about=r"\brole|alternat|\bcontent\b|jinja|template",
        # What stands in their place is itself refused by strict upstreams.
        steady=("unreasoned", "unsigned"),
        whole=True,
    )
    refused = {name: quoted(text) for name, text in trial.refused.items()}
    if "id" in refused:
        evidence = f"an id of another form was refused: {refused['id']}"
        book.fact("call_ids", "nine_alphanumerics", evidence=evidence)
    elif "id" in trial.taken:
        book.fact("call_ids", "as_is", evidence=f"the id {payloads.ORDINARY_ID} was taken")
    between = "answer_between_tool_and_user"
    if "user" in refused:
        evidence = f"a user message behind a tool message was refused: {refused['user']}"
        book.fact(between, True, evidence=evidence)
    elif "user" in trial.taken:
        book.fact(between, False, evidence="a user message was taken behind a tool message")
    if "bare" in refused:
        evidence = f"a message that only calls was refused: {refused['bare']}"
        book.fact("content_beside_calls", "empty", "null", evidence=evidence)
    if "unsigned" in refused:
        evidence = f"calls without it were refused: {refused['unsigned']}"
        book.fact("extra_content_required", payloads.SIGNATURE, evidence=evidence)
    if "unreasoned" in refused:
        evidence = f"calls without reasoning were refused: {refused['unreasoned']}"
        book.fact("reasoning_required", True, evidence=evidence)
    elif book.thinks and "unreasoned" in trial.taken:
        evidence = "it thinks, and calls without reasoning were taken"
        book.fact("reasoning_required", False, evidence=evidence)
    conceded = frozenset(payloads.LIBERTIES) - trial.taken
    if not conceded & trial.unclear.keys() and trial.reply is not None:
        yield from _pass_back(book, conceded, trial.reply, required="unreasoned" in refused)


def _pass_back(
    book: Notebook, conceded: Collection[str], without: Reply, *, required: bool
) -> Asking[None]:
    """Whether reasoning of an earlier turn may go back, and whether it is read there."""
    liberties = [one for one in payloads.LIBERTIES if one not in conceded or one == "unreasoned"]
    back: dict[str, Back] = {}
    evidence: list[str] = []
    if required:
        back["reasoning_content"] = "read"
        evidence.append("reasoning_content is demanded")
    for field in ("reasoning_content", "reasoning"):
        if field in back:
            continue
        result = yield from _field_back(book, field, liberties, without, required=required)
        if result is not None:
            back[field], said = result
            evidence.append(f"{field} {said}")
    if back:
        book.findings.append(
            Replays(fields=back, came_in=book.came_in, evidence="; ".join(evidence))
        )
    base: Fields = {"reasoning_content": payloads.REASONING} if required else {}
    details: Fields = {"reasoning_details": payloads.DETAILS}
    signed = [one for one in liberties if one != "unsigned"]
    trial = yield from book.attempt(
        "more in the history",
        {"reasoning_details": r"\breasoning_details\b", "extra_content": r"\bextra_content\b"},
        lambda names: book.body(
            payloads.history(
                signed if "extra_content" in names else liberties,
                **base,
                **(details if "reasoning_details" in names else {}),
            ),
            tools=payloads.TOOLS,
        ),
    )
    for name, text in trial.refused.items():
        book.fact(name, False, evidence=f"it was refused in the history: {quoted(text)}")
    for name in trial.taken & book.marks:
        book.fact(name, True, evidence="it came from there, and was taken back")


def _field_back(
    book: Notebook, field: str, liberties: list[str], without: Reply, *, required: bool
) -> Asking[tuple[Back, str] | None]:
    base: Fields = {"reasoning_content": payloads.REASONING} if required else {}
    trial = yield from book.attempt(
        f"{field} in the history",
        {"it": rf"\b{field}\b", "text beside it": r"both content and thinking"},
        lambda names: book.body(
            payloads.history(
                liberties,
                **base,
                **({field: payloads.REASONING} if "it" in names else {}),
                **({"content": "I look it up."} if "text beside it" in names else {}),
            ),
            tools=payloads.TOOLS,
        ),
        point="it",
        whole=True,
    )
    if (text := trial.refused.get("text beside it")) is not None and "it" in trial.taken:
        name = "reasoning_not_beside_text_and_calls"
        if not any(finding.fact == name for finding in book.findings):
            book.fact(name, True, evidence=f"the three together were refused: {quoted(text)}")
    if "it" in trial.refused:
        return "refused", f"was refused: {quoted(trial.refused['it'])}"
    if "it" not in trial.taken or trial.reply is None:
        return None
    before, after = without.usage, trial.reply.usage
    if before is None or after is None or not before.input_tokens or not after.input_tokens:
        return "taken", "was taken"
    more = after.input_tokens - before.input_tokens
    if more >= payloads.MIN_REASONING_TOKENS:
        return "read", f"made the prompt {more} tokens longer"
    return "ignored", "was taken, but did not make the prompt longer"
