"""The grammar of refusals: which field of a request a sentence rejects, and in what sense.

    refusal = verb, { noun }, field | field, { noun }, verb ;
    verb    = of a field: "unknown", "does not support", "is not permitted", "must be removed" …
            | of a value: "invalid value for", "must be one of", "does not support 'high'" … ;
    field   = [ path ], name ;              body.x, 'messages[1].x', ('body', 'messages', 1, 'x')

Sentences differ from server to server and from release to release, but they are made of these
words. A range ("must be at most 2") is a mistake of the client's, not a refusal; ordinary words
("user", "reasoning") are fields only where they are written as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from translator.common.lazy_pattern import lazy_pattern

MAX_TEXT_CHARACTERS = 32 * 1024
"""How much of an error text is read: some upstreams repeat the whole request in it."""

MAX_MENTIONS = 200
"""Fields named in a text that are looked at."""

Place = Literal["request", "messages", "tools"]
Sense = Literal["field", "value"]

_FLAGS = re.IGNORECASE
_BEFORE_CHARACTERS, _AFTER_CHARACTERS = 160, 160

# --- words ------------------------------------------------------------------------------------

_NOUN = (
    r"(?:parameters?|arguments?|params?|args?|fields?|keys?|propert(?:y|ies)|names?|inputs?"
    r"|options?|members?|attributes?|keywords?|settings?)(?:\(s\))?"
)
_UNKNOWN = (
    r"(?:unknown|unsupported|unrecogni[sz]ed|unexpected|illegal|disallowed|forbidden|undefined"
    r"|unpermitted|extra|additional|extraneous|unaccepted|prohibited)"
)
_BAD = (
    r"(?:invalid|unsupported|unexpected|unknown|illegal|bad|incorrect|unrecogni[sz]ed|wrong"
    r"|disallowed)"
)
_ACCEPTED = (
    r"(?:supported|permitted|allowed|accepted|recogni[sz]ed|known|available|implemented|expected"
    r"|enabled|compatible)"
)
_ACCEPT = (
    r"(?:support(?:ing|s)?|accept(?:ing|s)?|allow(?:ing|s)?|permit(?:ting|s)?|recogni[sz]e|know"
    r"|take|handle|understand|contain|include|have|carry|specify|set|send|pass|use|provide)"
)
_NOT = (
    r"(?:(?:do|does|did|will|is|are|was|were|has|have|must|should|can|could|may|shall)"
    r"(?: not|n't)|cannot|can not|can't|not|never|no longer)"
)
_QUOTE = "['\"`‘’“”]"
_NAMES_BEFORE = rf"(?:{_QUOTE}?[\w.\[\]]+{_QUOTE}?(?:\s*,\s*|\s+and\s+|\s*,\s*and\s+))*"
"""Other names of the same list."""

_FIELD_BEFORE = lazy_pattern(
    r"(?:"
    # Unknown parameter: X; Unexpected fields in the request: {X}; unknown name "X"
    rf"\b{_UNKNOWN}(?:[ _-](?:or|and|unsupported|unknown|request|body|json|chat|message|optional"
    rf"|query|input|top-level|keyword))*[ _-]{_NOUN}"
    r"(?: (?:supplied|found|in|the|request|body|payload|object|messages?|provided|passed|given"
    r"|received|present|was|were|is|are|named|called|of|for))*"
    # no such parameter: X; not a valid parameter: X
    rf"|\b(?:no such|not an? (?:valid|known|supported|allowed|recogni[sz]ed)) {_NOUN}"
    # Extra inputs are not permitted, field: X
    rf"|\b{_UNKNOWN} {_NOUN} (?:are |is )?not {_ACCEPTED}[,;:. ]*(?:{_NOUN}|at|in)?"
    # Argument not supported on this model: X
    rf"|\b{_NOUN} (?:is |are )?not {_ACCEPTED}(?: \w+){{0,5}}?:"
    # does not support the parameter X; cannot contain X
    rf"|\b{_NOT} (?:currently |yet |be |to )*{_ACCEPT}"
    rf"(?: (?:the|any|a|an|custom|setting|use|usage|of|for|following|chat|openai|{_NOUN}))*:?"
    # rejects X; please remove X
    r"|\b(?:rejects?|refuses?|forbids?|disallows?|remove|omit|strip|leave out)"
    rf"(?: (?:the|any|a|an|{_NOUN}))*:?"
    r"|\bno support for(?: the)?"
    r")[\s:=]*[\[({]*\s*" + _NAMES_BEFORE + r"[\[({]*$",
    _FLAGS,
)
_LEAD = (
    rf"^{_QUOTE}?[\s\])}}:]*(?:,?\s*['\"]?msg['\"]?\s*[:=]\s*['\"]*)?"
    rf"(?:(?:the )?{_NOUN}\s+)?"
)
_FIELD_AFTER = lazy_pattern(
    rf"{_LEAD}"
    r"(?:"
    rf"(?:in \S+ (?:messages? )?|for this model )?{_NOT} (?:currently |yet |both )?(?:be )?"
    rf"(?:currently |yet )?(?:an? )?(?:{_ACCEPTED}|used|specified|provided|passed|sent|included"
    rf"|present|defined|set(?! to)|valid {_NOUN})\b(?! (?:value|to be))"
    rf"|(?:(?:is|are|was|were|:) ?)?(?:an? )?{_UNKNOWN}\b(?! (?:value|variant))"
    rf"|(?:is|are) an? invalid {_NOUN}|object (?:contains|has) (?:an? )?{_UNKNOWN} {_NOUN}"
    r"|(?:is|are) (?:deprecated|removed|unavailable|disabled)\b"
    rf"|{_UNKNOWN} {_NOUN}"
    r"|(?:extra|additional|unknown) (?:inputs?|fields?|propert(?:y|ies)) (?:are |is )?not\b"
    r"|extra_forbidden|cannot find field"
    r"|(?:must|should|has to|needs to) (?:be )?(?:removed|omitted|absent|unset|left out)"
    rf"|(?:is|are) only {_ACCEPTED} (?:when|with|if|for|in|by)\b"
    r"|can only be (?:used|set|specified|defined|given|provided|passed) (?:when|with|if|for|in)\b"
    r")",
    _FLAGS,
)
_VALUE_BEFORE = lazy_pattern(
    r"(?:"
    rf"\b{_BAD}(?:[ -](?:value|level|setting|option|choice|type|mode|enum|{_NOUN}))*"
    r"(?: (?:for|of|in|the|parameter|field|argument|property))*:?"
    r"|\bdoes(?: not|n't) (?:support|accept|allow) (?:this|that|the given|the requested|such an?)"
    r"|\bnot an? (?:valid|supported|allowed|accepted|known)(?: value (?:for|of))?"
    rf"|\b(?:value|level|setting)s? (?:{_QUOTE}?\w+{_QUOTE}? )?(?:of|for) (?:the )?(?:{_NOUN} )?"
    r")\s*$",
    _FLAGS,
)
_VALUE_AFTER = lazy_pattern(
    rf"{_LEAD}"
    rf"(?:(?:value|level)s? )?(?:(?:of |with |= ?|: ?)?{_QUOTE}?[\w.-]+{_QUOTE}? )?"
    r"(?:"
    r"(?:must|should|can|may|has to|needs to|could) (?:only )?be (?:one of|either|any of|set to"
    rf"|in\b|{_QUOTE}|\[|none\b|low\b|medium\b|high\b|auto\b|enabled\b|disabled\b)"
    r"|(?:currently )?(?:only )?(?:supports|accepts|allows|takes)\b"
    r"|only \S+ (?:is|are) (?:allowed|supported|accepted|valid)"
    rf"|{_NOT} (?:currently )?(?:support|accept|allow)\b"
    r"|(?:cannot|can't|can not|must not|may not) be (?:set to |used as )?"
    rf"(?:{_QUOTE}|none\b|null\b|off\b|required\b|disabled\b|false\b)"
    r"|(?:is|are) (?:not (?:one of|valid|in\b|a valid)|invalid|incompatible|unsupported value)"
    rf"|input should be {_QUOTE}|(?:input )?should be one of|unknown variant|expected one of"
    r"|(?:has )?(?:an )?(?:invalid|unsupported|unknown) value"
    rf"|(?:is|are) not {_ACCEPTED}"
    r")",
    _FLAGS,
)
_RANGE = lazy_pattern(
    r"\b(?:less|greater|more|smaller|larger|higher|lower|bigger) than\b|\bbetween\b"
    r"|\bat (?:most|least)\b|[<>≤≥]|\brange\b"
    r"|\b(?:an?|valid) (?:\w+ )?(?:integer|number|float|string|boolean|bool"
    r"|object|array|list|dict)\b|\b(?:minimum|maximum)\b|[\[(]\s*-?[\d.]+\s*,",
    _FLAGS,
)
_CONDITION = lazy_pattern(
    r"\bboth\b|\btogether\b|\bsimultaneous|\bat the same time\b|\bmutually\b|\bonly one of\b"
    r"|\bcombin|\bconflict|^\W*(?:is|are|can) only\b"
    r"|\bwhen\b(?! \w+ (?:this|the|that|an?) (?:\S+ )?model)|\bunless\b|\bwithout\b",
    _FLAGS,
)
"""Words of a refusal that is about this request, and not about all of them."""

_IS_FIELD_NOUN = lazy_pattern(rf"\b{_NOUN}(?: \w+)?[\s:]*[\[({{]*{_QUOTE}?$", _FLAGS)
_OTHER_THING = lazy_pattern(r"\b(?:(?:tool|function|role)s?:?|model)\s*$", _FLAGS)
_LISTED = lazy_pattern(rf":\s*[\[({{]*(?:{_QUOTE}?\w+{_QUOTE}?(?:\s*,\s*|\s+and\s+))+$")
_CLAUSE_END = lazy_pattern(r"[;\n]|\.\s|\)\]")
_IN_OTHER = lazy_pattern(
    r"\b(messages|contents|tools|functions|response_format)\b(?=\s*[.\[/]\s*\[?\d)"
    r"|\b(message)s?(?= with\b)"
    r"|\b(?:tool|function|json_?|parameters?|response) ?schema\b|\bschema (?:for|of)\b",
    _FLAGS,
)
_AT_OTHER = lazy_pattern(
    rf"^{_QUOTE}?\s*(?:is |are )?(?:not \w+ |un\w+ )?(?:at|in|inside|within|on|for) "
    rf"(?:the |an? |of )*{_QUOTE}?(?:\w+ )?(messages?|contents?|tools?|functions?)\b",
    _FLAGS,
)
_SEGMENT = lazy_pattern(r"[A-Za-z_]\w*")
_LOCATION = lazy_pattern(
    r"[(\[]\s*(?P<path>['\"](?:body|request|messages|tools|params)['\"]"
    r"(?:\s*,\s*(?:['\"][^'\"\n]{0,100}['\"]|\d+))*)\s*,?\s*[)\]]"
)
_ESCAPED = lazy_pattern(r"(?<!\\)\\{1,16}(['\"`/])")
_CAPITAL = lazy_pattern(r"(?<=[a-z0-9])[A-Z]")


class Verdict(Struct, frozen=True):
    """A field that a sentence rejects.

    `name` is the field's, `inside` what of it is meant ("effort" of "reasoning.effort"), `place`
    where it stands. `sense`: the field is not known, or this value of it is not accepted. `once`:
    the sentence is about this request alone. `stop` is where the mention ends in the text.
    """

    name: str
    inside: str
    place: Place
    sense: Sense
    once: bool
    start: int
    stop: int


def plain(text: str) -> str:
    """An error text without the escapes of JSON in JSON, and with paths written with dots."""
    text = text[:MAX_TEXT_CHARACTERS].replace("\\n", "\n").replace(" -> ", ".")
    return _LOCATION.sub(_dotted, _ESCAPED.sub(r"\1", text))


def _dotted(found: re.Match[str]) -> str:
    return ".".join(part.strip(" '\"") for part in found["path"].split(","))


def verdicts(
    text: str, names: Iterable[str], words: frozenset[str] = frozenset()
) -> Iterator[Verdict]:
    """The rejected ones among fields of these names, in a text that `plain` returned.

    `words` are those of the names that are also ordinary words, and count only where they are
    quoted, or called a field. A name may be written in camel case, or with blanks.
    """
    spelled = {spelling: name for name in names for spelling in _spellings(name)}
    if not spelled:
        return
    choice = "|".join(sorted(map(re.escape, spelled), key=len, reverse=True))
    mentions = re.compile(
        rf"(?<![\w./\]])(?P<path>(?:[\w$#]{{0,64}}(?:\[\d{{0,9}}\])?[./]){{0,12}})(?P<name>{choice})(?!\w)"
        r"(?P<inside>(?:[./\[][\w\]]+)*)"
    )
    for number, mention in enumerate(mentions.finditer(text)):
        if number >= MAX_MENTIONS:
            return
        verdict = _verdict(text, mention, spelled[mention["name"]], words)
        if verdict is not None:
            yield verdict


_ALSO = {"parallel_tool_calls": {"parallel tool calling", "parallel function calling"}}


def _spellings(name: str) -> set[str]:
    head, *tail = name.split("_")
    spellings = _ALSO.get(name, set()) | {name, head + "".join(part.capitalize() for part in tail)}
    if tail:
        spellings |= {" ".join((head, *tail)), " ".join((head.capitalize(), *tail))}
    return spellings


def _verdict(text: str, mention: re.Match[str], name: str, words: frozenset[str]) -> Verdict | None:
    start, stop = mention.span()
    before = text[max(0, start - _BEFORE_CHARACTERS) : start]
    after = text[stop : stop + _AFTER_CHARACTERS]
    unquoted = before.rstrip("'\"`‘“")
    is_quoted = unquoted != before
    line_begins = not before or before.endswith("\n")
    if (
        name in words
        and not (is_quoted or mention["path"] or mention["inside"])
        and not _IS_FIELD_NOUN.search(before)
        and not (line_begins and after.startswith("\n"))
        and not _LISTED.search(before)
        and not re.match(
            r": (?:only|input should|extra|unexpected|unknown)\b| value\b", after, _FLAGS
        )
    ):
        return None
    if _OTHER_THING.search(unquoted):
        return None
    clause = _CLAUSE_END.split(unquoted)[-1]
    tail = _CLAUSE_END.split(after)[0]
    sense = _sense(clause, unquoted, after)
    if sense is None or (sense == "value" and _RANGE.search(tail)):
        return None
    inside = ".".join(_SEGMENT.findall(mention["inside"]))
    return Verdict(
        name,
        inside,
        _place(mention["path"], clause, after),
        sense,
        once=_CONDITION.search(tail) is not None,
        start=start,
        stop=stop,
    )


def _sense(clause: str, before: str, after: str) -> Sense | None:
    """What a sentence says of the field between two texts; `clause` is the end of the first."""
    if _FIELD_AFTER.match(after):
        return "field"
    if _FIELD_BEFORE.search(before):
        return (
            "value"
            if re.match(r"['\"`]?\s*[=:]\s*['\"`]?\w", after) and "param" not in clause
            else "field"
        )
    if _VALUE_AFTER.match(after) or _VALUE_BEFORE.search(clause):
        return "value"
    return None


def _place(path: str, clause: str, after: str) -> Place:
    segments = _SEGMENT.findall(path)
    found = next((one for one in segments if one in ("messages", "contents", "tools")), "")
    if not found:
        other = _AT_OTHER.match(after)
        others = list(_IN_OTHER.finditer(clause))
        found = (other[1] if other else others[-1][0] if others else "").lower()
    if not found:
        return "request"
    return "messages" if found.startswith(("message", "content")) else "tools"


def snake(name: str) -> str:
    """A name in camel case as it is in a request."""
    return _CAPITAL.sub(lambda capital: f"_{capital[0]}", name).lower()


# --- levels of an effort ----------------------------------------------------------------------

_LEVEL = r"(?:none|minimal|low|medium|high|xhigh|max|default|auto)"
_LEVELS = lazy_pattern(
    r"\b(?:(?:supported|allowed|valid|accepted|available|permitted|possible|expected|acceptable"
    r"|supports|accepts|allows|takes|support|accept)"
    r"(?: (?:only|reasoning|effort|thinking|values?|levels?|options?|efforts?|choices?|settings?"
    r"|are|is|include|one|of|either|for|this|the|model|the following|following))*"
    r"(?: (?:for|of|by) [^:\n]{1,60}?(?:are|is|:))?"
    r"|(?:must|should|can|may|has to) (?:only )?be(?: one of| either| any of| in| set to)?"
    r"|one of|values? (?:are|is)|levels? (?:are|is)|choose (?:from|between)|options(?: are)?"
    r"|please use|use(?: one of| either)?|either|not in|only|choices(?: are)?|got [^;,]{1,60}[;,])"
    r"[\s:=(]{0,8}(?:values?|levels?)?[\s:=(\[{]{0,8}"
    rf"(?P<list>{_QUOTE}?{_LEVEL}\b{_QUOTE}?"
    rf"(?:(?:\s*(?:,|\||/|;|&)\s*|\s+)(?:(?:and|or)\s+)?{_QUOTE}?{_LEVEL}\b{_QUOTE}?)*)",
    _FLAGS,
)
_ONE_LEVEL = lazy_pattern(rf"\b{_LEVEL}\b", _FLAGS)


def levels_in(text: str) -> tuple[str, ...]:
    """The levels that a text lists as accepted, in its order; the longest list counts."""
    lists = [
        tuple(dict.fromkeys(one[0].lower() for one in _ONE_LEVEL.finditer(found["list"])))
        for found in _LEVELS.finditer(text)
    ]
    return max(lists, key=len, default=())


_NO_THINKING = lazy_pattern(
    r"\b(?:do|does)(?: not|n't) (?:currently )?(?:support|allow|have) (?:extended )?"
    r"(?:thinking|reasoning)\b(?![ _-]?(?:content|details|text|effort|budget|off|in\b|field))"
    r"|\b(?:thinking|reasoning)(?: mode| capability)? (?:is|are) not (?:supported|available)\b"
    r"(?! (?:in|for) (?:assistant |user )?messages?)"
    r"|\bis not a (?:reasoning|thinking) model",
    _FLAGS,
)
_ALWAYS_THINKS = lazy_pattern(
    r"\b(?:thinking|reasoning)(?: mode| effort)? (?:is |are )?(?:mandatory|always (?:on|enabled)"
    r"|required(?! (?:in|for|field)))"
    r"|\b(?:thinking|reasoning)(?: mode)? (?:cannot|can't|can not|may not|must not) be "
    r"(?:disabled|turned off|switched off|none|off)"
    r"|\b(?:cannot|can't|unable to|not possible to) (?:disable|turn off|switch off) "
    r"(?:the )?(?:thinking|reasoning)"
    r"|\b(?:do|does)(?: not|n't) support (?:disabling|turning off|switching off) "
    r"(?:the )?(?:thinking|reasoning)"
    r"|\bonly (?:supports?|works in|runs in) (?:thinking|reasoning)(?: mode)?",
    _FLAGS,
)


def refuses_thinking(text: str) -> bool:
    """Whether a text says that a model does not think, so that no effort can be set."""
    return _NO_THINKING.search(text) is not None


def requires_thinking(text: str) -> bool:
    """Whether a text says that a model always thinks, so that it cannot be switched off."""
    return _ALWAYS_THINKS.search(text) is not None
