"""The topics of an interview that need no tools: each asks, and writes down what it found."""

from __future__ import annotations

import re
from typing import Literal

from . import payloads
from .findings import Carries, Member, NotSent, Switched, Tagged, Thinks
from .payloads import Fields
from .replies import Refused, Reply, Taken, Unclear, quoted
from .state import NEVER, Asking, CouldNotAsk, Notebook

MANY_WAYS = 4
"""No upstream is known to take more of the ways to switch thinking off."""

_LIMIT = re.compile(r"max_(completion_)?tokens")
_THINKING = re.compile(r"think|reasoning", re.IGNORECASE)


def hello(book: Notebook) -> Asking[Reply]:
    """The first answer: is there anybody, does it think, and where does it say so."""
    outcome = yield from book.ask("a first answer", book.body(payloads.ARITHMETIC))
    if isinstance(outcome, Refused) and _LIMIT.search(outcome.text):
        evidence = f"max_tokens was refused: {quoted(outcome.text)}"
        book.limit = "max_completion_tokens"
        outcome = yield from book.ask("max_completion_tokens", book.body(payloads.ARITHMETIC))
        if isinstance(outcome, Taken):
            book.fact("max_tokens_field", book.limit, evidence=evidence)
    match outcome:
        case Taken(reply):
            _look_at(book, reply)
            return reply
        case Refused(text):
            raise CouldNotAsk(f"The upstream refuses even a plain question: {quoted(text)}")
        case Unclear(reason):
            if reason.endswith("."):
                raise CouldNotAsk(reason)
            raise CouldNotAsk(f"The upstream does not answer a plain question: {reason}.")


def _look_at(book: Notebook, reply: Reply) -> None:
    book.came_in = next(iter(reply.reasoning), None)
    _thinks_unasked(book, reply)
    if reply.tags is not None:
        evidence = f"the text began with {quoted(reply.text.strip(), 40)}"
        book.findings.append(Tagged(pair=reply.tags, evidence=evidence))
    elif reply.lone_close is not None:
        before = reply.text.partition(reply.lone_close[1])[0]
        by_server = bool(reply.reasoning) or not before.strip()
        book.findings.append(
            Tagged(
                pair=reply.lone_close,
                opened_by_template=not by_server,
                stray_close=by_server,
                evidence=f"{reply.lone_close[1]} stood in the text, without its beginning",
            )
        )
    if reply.repeats:
        book.fact("cumulative", True, evidence="each chunk repeated the text before it")
    if reply.finish is None:
        book.notes.append("An answer of text ended without a finish reason.")
    if reply.whole and not reply.done:
        book.notes.append("The stream ended without [DONE].")


def _thinks_unasked(book: Notebook, reply: Reply) -> None:
    if reply.thinks and not book.thinks:
        book.thinks = True
        if reply.reasoning:
            where = f"came in {', '.join(reply.reasoning)}"
        else:
            where = "stood in the text" if reply.tags or reply.lone_close else "was counted"
        book.findings.append(Thinks(by_default=True, evidence=f"unasked, reasoning {where}"))


def usage(book: Notebook, hello: Reply) -> Asking[None]:
    asked: Fields = {"stream_options": {"include_usage": True}}
    outcome = yield from book.ask("usage in a stream", book.body(payloads.GREETING, **asked))
    if isinstance(outcome, Refused):
        evidence = f"stream_options was refused: {quoted(outcome.text)}"
        book.fact("stream_usage", False, evidence=evidence)
    elif isinstance(outcome, Taken):
        book.stream_options = asked
        _thinks_unasked(book, outcome.reply)
        if outcome.reply.usage and not hello.usage:
            evidence = "usage came when stream_options asked for it, and only then"
            book.fact("stream_usage", True, evidence=evidence)
    if hello.usage:
        book.notes.append("Usage comes in a stream without being asked for.")


def whole(book: Notebook) -> Asking[None]:
    body = book.body(payloads.ARITHMETIC, stream=False)
    body.pop("stream_options", None)
    outcome = yield from book.ask("an answer that is no stream", body)
    if isinstance(outcome, Refused):
        if book.thinks and _THINKING.search(outcome.text):
            evidence = f"without a stream it was refused: {quoted(outcome.text)}"
            book.fact("thinks_only_streaming", True, evidence=evidence)
        else:
            book.notes.append(f"Without a stream it is refused: {quoted(outcome.text)}")
    elif isinstance(outcome, Taken) and outcome.reply.thinks:
        evidence = "reasoning came in an answer that was no stream"
        book.fact("thinks_only_streaming", False, evidence=evidence)


def completion_limit(book: Notebook) -> Asking[None]:
    if book.limit == "max_completion_tokens":
        return
    body = book.body(payloads.COUNTING)
    del body["max_tokens"]
    body["max_completion_tokens"] = payloads.FEW_TOKENS
    outcome = yield from book.ask("max_completion_tokens", body)
    if isinstance(outcome, Refused):
        evidence = f"max_completion_tokens was refused: {quoted(outcome.text)}"
        book.fact("max_tokens_field", "max_tokens", evidence=evidence)
    elif isinstance(outcome, Taken):
        reply = outcome.reply
        if not reply.cut and len(reply.text) > payloads.MANY_CHARACTERS:
            evidence = (
                f"an answer of {len(reply.text)} characters came under a "
                f"max_completion_tokens of {payloads.FEW_TOKENS}"
            )
            book.fact("max_tokens_field", "max_tokens", evidence=evidence)
        elif reply.cut:
            book.notes.append("Both max_tokens and max_completion_tokens are taken.")


def thinking(book: Notebook, hello: Reply) -> Asking[None]:
    """How thinking is switched off, or on where it does not come by itself."""
    if not book.thinks:
        yield from _thinking_on(book)
        return
    if hello.tags:
        yield from _splitters(book)
    works: list[str] = []
    refused: dict[str, str] = {}
    for name, (off, _) in payloads.SWITCHES.items():
        topic = f"thinking off by {name}"
        outcome = yield from book.ask(topic, book.body(payloads.ARITHMETIC, **off))
        if isinstance(outcome, Refused):
            refused[name] = quoted(outcome.text)
        elif isinstance(outcome, Taken):
            reply = outcome.reply
            if not (reply.thinks or reply.cut or reply.said_nothing):
                works.append(name)
    if refused:
        ways = [payloads.SWITCHES[name][0] for name in refused]
        first = next(iter(refused.values()))
        evidence = f"{', '.join(refused)} {'were' if len(refused) > 1 else 'was'} refused: {first}"
        book.findings.append(NotSent(level="none", ways=ways, evidence=evidence))
    if len(works) > MANY_WAYS:
        book.notes.append("It thinks at times only, so no way to switch that off can be told.")
    elif works:
        book.off = payloads.SWITCHES[works[0]][0]
        evidence = f"no reasoning came with {', '.join(works)}"
        _switched(book, "none", works, evidence)
    else:
        book.notes.append("No known way switched its thinking off.")


def _switched(
    book: Notebook, level: Literal["none", "high"], works: list[str], evidence: str
) -> None:
    off, on = payloads.SWITCHES[works[0]]
    instead = {"none": off, "high": on}
    if level == "high":
        del instead["none"]
    if works[0] == "reasoning_effort":
        named = {word: {"reasoning_effort": word} for word in ("low", "medium", "high")}
        instead |= named
    fields = [payloads.SWITCHES[name][level == "high"] for name in works]
    book.findings.append(Switched(level=level, works=fields, instead=instead, evidence=evidence))


def _thinking_on(book: Notebook) -> Asking[None]:
    on = payloads.SWITCHES["reasoning_effort"][1]
    topic = "thinking on by reasoning_effort"
    outcome = yield from book.ask(topic, book.body(payloads.ARITHMETIC, **on))
    if isinstance(outcome, Refused):
        evidence = f"reasoning_effort was refused: {quoted(outcome.text)}"
        book.findings.append(NotSent(level="high", ways=[on], evidence=evidence))
    elif isinstance(outcome, Taken) and outcome.reply.thinks:
        book.came_in = next(iter(outcome.reply.reasoning), None)
        _switched(book, "high", ["reasoning_effort"], "reasoning came with reasoning_effort")
        book.findings.append(
            Thinks(by_default=False, evidence="without reasoning_effort there was none")
        )


def _splitters(book: Notebook) -> Asking[None]:
    for fields in payloads.SPLITTERS:
        [name] = fields
        topic = f"reasoning beside the text by {name}"
        outcome = yield from book.ask(topic, book.body(payloads.ARITHMETIC, **fields))
        if isinstance(outcome, Taken) and outcome.reply.reasoning and not outcome.reply.tags:
            field = next(iter(outcome.reply.reasoning))
            book.came_in = field
            evidence = f"with {name} the reasoning came in {field}"
            book.findings.append(Carries(fields=fields, evidence=evidence))
            return


def developer(book: Notebook) -> Asking[None]:
    outcome = yield from book.ask(
        "developer role", book.body(payloads.DEVELOPER), words=r"\brole|developer|jinja|template"
    )
    if isinstance(outcome, Refused):
        evidence = f"the role developer was refused: {quoted(outcome.text)}"
        book.fact("developer_role", False, evidence=evidence)
    elif isinstance(outcome, Taken):
        if payloads.SECRET_WORD in outcome.reply.text.upper():
            evidence = "a developer message was obeyed"
            # Weak: to send it as `system`, as most dialects have it, is right there as well.
            book.fact("developer_role", True, evidence=evidence, weak=True)
        else:
            book.not_seen("developer role", "taken, but its message was not obeyed")


def system(book: Notebook) -> Asking[None]:
    trial = yield from book.attempt(
        "system messages",
        {"leading": NEVER, "later": NEVER},
        lambda where: book.body(payloads.system_messages(where)),
        about=r"system message|alternat|\brole|jinja|template",
    )
    if (text := trial.refused.get("later")) is not None:
        evidence = f"a system message behind others was refused: {quoted(text)}"
        book.fact("system_messages", "demote_later", evidence=evidence)
    elif (text := trial.refused.get("leading")) is not None:
        evidence = f"a second leading system message was refused: {quoted(text)}"
        book.fact("system_messages", "merge_leading", "demote_later", evidence=evidence)
    elif len(trial.taken) == 2:
        book.notes.append("System messages are taken in every place.")


def parameters(book: Notebook) -> Asking[None]:
    trial = yield from book.attempt(
        "optional fields",
        {name: words for name, (_, words) in payloads.PARAMETERS.items()},
        lambda names: book.body(
            payloads.GREETING,
            **{field: v for name in names for field, v in payloads.PARAMETERS[name][0].items()},
        ),
        whole=True,
    )
    for name, text in trial.refused.items():
        evidence = f"{name} was refused: {quoted(text)}"
        if name in ("user", "prompt_cache_key"):
            finding = Member(name="forwarded", member=name, there=False, evidence=evidence)
            book.findings.append(finding)
        elif name == payloads.NO_SUCH_FIELD:
            book.notes.append(f"Unknown fields are refused: {quoted(text)}")
        else:
            finding = Member(name="refused", member=name, there=True, evidence=evidence)
            book.findings.append(finding)
    if payloads.NO_SUCH_FIELD in trial.taken:
        book.notes.append("Unknown fields are taken (and probably ignored).")
    if "logprobs" in trial.taken and trial.reply and "logprobs" in trial.reply.marks:
        evidence = "log probabilities came when they were asked for"
        book.findings.append(
            Member(name="refused", member="logprobs", there=False, evidence=evidence)
        )


def formats(book: Notebook) -> Asking[bool]:
    """Structured output; whether schemas are followed."""
    followed = yield from _format(book, "json_schema", payloads.JSON_SCHEMA, payloads.CAPITAL)
    yield from _format(book, "json_object", payloads.JSON_OBJECT, payloads.NOT_ABOUT_JSON)
    return followed


def _format(
    book: Notebook,
    kind: Literal["json_schema", "json_object"],
    response_format: Fields,
    messages: list[Fields],
) -> Asking[bool]:
    outcome = yield from book.ask(kind, book.body(messages, response_format=response_format))
    there, evidence = False, ""
    if isinstance(outcome, Refused):
        evidence = f"{kind} was refused: {quoted(outcome.text)}"
    elif isinstance(outcome, Taken):
        found = outcome.reply.json
        there = found is not None and (kind == "json_object" or payloads.SCHEMA_KEY in found)
        if there:
            evidence = f"with {kind} the answer was {quoted(outcome.reply.text, 60)}"
        else:
            book.not_seen(kind, "taken, but the answer was not of this form")
    if evidence:
        finding = Member(name="response_formats", member=kind, there=there, evidence=evidence)
        book.findings.append(finding)
    return there


def picture(book: Notebook) -> Asking[None]:
    outcome = yield from book.ask(
        "images", book.body(payloads.PICTURE), words="image|mmproj|multimodal|vision"
    )
    if isinstance(outcome, Refused):
        evidence = f"this model refused a picture: {quoted(outcome.text)}"
        book.fact("images", False, evidence=evidence, weak=True)
    elif isinstance(outcome, Taken):
        if payloads.COLOUR in outcome.reply.text.lower():
            evidence = "the colour of a picture was told"
            book.fact("images", True, evidence=evidence, weak=True)
        else:
            book.not_seen("images", "taken, but the colour of the picture was not told")
