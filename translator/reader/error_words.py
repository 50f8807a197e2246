"""Vocabularies of upstream errors: what their sentences and codes mean, by nouns and verbs.

The sentences differ from server to server and from release to release; the words hardly do. So a
meaning is a grammar over few words, not a list of sentences:

    overflow  = noun of the input, verb of excess, noun of a limit | limit of a context ;
    not these = a limit of the output | a rate | something else that is too large, as an image

Each function answers one question about a text of at most some thousand characters.
"""

from __future__ import annotations

import re

from translator.common.lazy_pattern import lazy_pattern

from .quotations import unquoted

_FLAGS = re.IGNORECASE

# --- the context is too long ------------------------------------------------------------------

CONTEXT_CODES = lazy_pattern(
    r"(?:model_)?context_?(?:length|window|size|limit)_?exceeded(?:_?error)?"
    r"|contextwindowexceedederror"  # LiteLLM
    r"|exceed_context_size_error"  # llama.cpp
    r"|too_many_(?:prompt|input)_tokens"  # Perplexity
    r"|(?:prompt|input|context)_(?:is_)?too_(?:long|large)"
    r"|request_too_large"  # Anthropic
    r"|1261"  # Z.ai
)
"""Codes of an overflow, in lower case."""

_CONTEXT = (
    r"(?:context[ _-]?(?:length|window|size|limit|len)\w*"
    r"|(?:max(?:imum|\.)?|allowed|supported|configured|model(?:'s)?)[ _-]?"
    r"(?:(?:allowed|total|supported)[ _-])?"
    r"(?:input|prompt|context|sequence|seq|model|position(?:_embedding)?)s?[ _-]?"
    r"(?:length|len|tokens?|size|limit|token limit|window|embeddings)"
    r"|max(?:imum)?[ _](?:seq|model)[ _]len(?:gth)?"
    r"|(?:input|prompt|total) (?:token )?(?:length|limit|token limit))"
)
"""A limit of the input: the context window, by all its names."""

_INPUT = (
    r"(?:\b(?:input|prompt|conversation|chat history|context)s?\b"
    r"(?! should (?:be|have|match|not)\b)"  # pydantic's, of any field
    r"|\brequested (?:about )?\d+ (?:input |prompt )?tokens\b"
    r"|\b(?:prompt|input)[_ ]?tokens?\b"
    r"|\b(?:messages?|requests?|body|payload|entity|content|total|text|query)(?: \w+)?"
    r" (?:size|length|tokens?|bytes|characters)\b"
    r"|\b(?:number|count|amount|length|size|sum) of (?:the |all |your |input |prompt )*"
    r"(?:tokens?|messages|prompt|input|request)\b"
    r"|\btokens? (?:count |number )?(?:in|of|for) (?:the |your |this |all )*"
    r"(?:request|prompt|input|messages?|conversation)\b"
    r"|\brequested (?:token count|tokens|number of tokens)\b"
    r"|\b(?:your|the|this) (?:messages|request) (?:has|have|contains?|resulted in|is|was|of)\b"
    r"[^.]{0,20}\btokens\b"
    r"|[`'\"]inputs[`'\"])"
)
"""What the client has sent, as a quantity."""

_EXCEEDS = (
    r"(?:exceed(?:s|ed|ing)?|surpass(?:es|ed)?|overflow(?:s|ed)?"
    r"|(?:longer|larger|greater|bigger|more|higher) than|(?:is |are )?(?:over|above|beyond) "
    r"|too (?:long|large|big|many|high)|out of range|does(?: not|n't) fit|cannot fit"
    r"|(?:must|should|can|may|cannot|can't)(?: not|n't)? "
    r"(?:be (?:less|fewer|smaller|lower|shorter|at most|no (?:more|longer)|below|under|within|<)"
    r"|have (?:less|fewer|at most)|contain (?:more|at most)|exceed)"
    r"|>|only (?:supports?|accepts?|allows?|\d)|(?:limit|max\w*) (?:is|of|was) )"
)
_LIMIT = r"(?:limit|max|allow|window|length|size|capacity|context|supported|\d)"

_OVERFLOW = lazy_pattern(
    # a limit of the context, exceeded, in either order
    rf"{_CONTEXT}[^\n]{{0,100}}(?:{_EXCEEDS}|is only|of only)"
    rf"|{_EXCEEDS}[^\n]{{0,100}}{_CONTEXT}"
    r"|maximum context length|maximum prompt length is|max(?:imum)? input (?:limit|length)"
    r"|max(?:imum)? (?:number|amount|count|length|size) of (?:input|prompt|context)"
    r"|max(?:imum)? tokens (?:allowed )?(?:for|in|of) (?:the )?(?:input|prompt)"
    r"|max(?:imum)? context\b|sequence length is longer than"
    rf"|\b(?:requests?|body|payload|messages)(?: is| are)? {_EXCEEDS}[^\n]{{0,60}}"
    r"(?:\d ?(?:bytes|tokens|[KMG]i?B)\b|size|length|tokens)"
    # tokens of the input over a limit
    rf"|{_INPUT}[^\n]{{0,80}}{_EXCEEDS}[^\n]{{0,80}}{_LIMIT}"
    rf"|\b(?:prompt|input)\b[^\n]{{0,60}}(?:\+|\band|\bplus)[^\n]{{0,30}}max_?\w*tokens"
    rf"[^\n]{{0,40}}{_EXCEEDS}"
    # the input has so many tokens, and the context is so large
    rf"|{_INPUT}[^\n]{{0,40}}\d[^\n]{{0,80}}{_CONTEXT}[^\n]{{0,20}}\d"
    r"|\b(?:prompt|input|conversation|context|chat history|messages?|request|payload|entity)"
    r"(?: text| list| body| size| length)?(?: is| are| was)? (?:much |far )?"
    r"too (?:long|large|big)\b"
    r"|too many (?:input |prompt |total |context )?tokens(?! per)"
    r"|(?:reduce|shorten|decrease|truncate) (?:the )?(?:length|size|number of tokens) (?:of|in) "
    r"(?:the |your |either )?(?:one|messages?|input|prompt|conversation|request|context)"
    r"|range of input length should be|\binputs?.? tokens \+ .?max_new_tokens.? must be"
    r"|input length and .?max_tokens.? exceed|token limit exceeded|exceeded model token limit"
    r"|\btoken count \d+ exceeds|\b(?:conversation|chat|message) history is too long"
    r"|total length of all messages is too long|too large for model with \d+ maximum"
    r"|context[_ ]length[_ ]exceeded"
    r"|max_tokens must be at least 1, got -"  # vLLM: the context less the input
    # OpenAI, of a text; of an id it is something else
    r"|invalid '(?:input|messages)(?:\[\d+\])*(?:\.(?:content|text)[^']*)?': string too long"
    r"|(?:输入|上下文|提示词|请求)[^。]{0,20}(?:超过|超出|过长|超长)",
    _FLAGS,
)
_OTHER_QUANTITY = lazy_pattern(
    r"\b(?:images?|pictures?|audio|videos?|files?|pdfs?|documents?|pages?|attachments?|frames?"
    r"|tools|functions|tool names?|function names?|descriptions?|schemas?|enum|stop sequences?"
    r"|stop words?|metadata|tool_call_id|tool call ids?|time limit|timeout"
    r"|per (?:request|message|minute|second|hour|day)|megapixels?|resolution)\b",
    _FLAGS,
)
_COUNTED = lazy_pattern(
    r"\b\d+ (?:images?|pictures?|files?|videos?|pages?|attachments?|documents?|tools)\b", _FLAGS
)
_OTHER_INPUT = lazy_pattern(r"\blogit_bias\b|\b(?:audio|image|video|file) (?:input|prompt)", _FLAGS)
_OF_TEXT = lazy_pattern(
    r"tokens?\b|context|prompt|conversation|input (?:is )?(?:too )?l(?:ong|ength)", _FLAGS
)

_OUTPUT_FIELD = r"max_?(?:completion_?|output_?|new_?)?tokens"
_OUTPUT_LIMIT = lazy_pattern(
    rf"\b(?:{_OUTPUT_FIELD}|max(?:imum)?[ _](?:completion |output |new )?tokens"
    r"|(?:output|completion|generated) (?:tokens?|length)|maxOutputTokens)\b"
    r"[`'\"]*(?: or [`'\"]?\w+[`'\"]?)?(?: (?:parameter|value|field|of|has a value of))*:?"
    r"[^\n.]{0,40}?"
    r"(?:is too (?:large|high|big|long)|(?:must|should|can|cannot|can't|may)(?: not|n't)?"
    r" (?:be|exceed)|exceeds?|(?:larger|greater|higher|more) than|>|<=|out of range"
    r"|you requested exceeds|input should be|supported range|at most|limited to"
    r"|should be \[|is not (?:valid|supported)|\bis invalid\b)"
    rf"|(?:range of|invalid(?: value for)?|valid range of|value (?:of|for)) [`'\"]?{_OUTPUT_FIELD}"
    r"|maximum (?:allowed )?(?:number of )?(?:output|completion)"
    r"|supports at most \d+ (?:completion|output)",
    _FLAGS,
)
_SUM = lazy_pattern(
    r"(?:input|prompt|inputs|messages)(?:_tokens)?\b(?:[^\n.]|\.\d){0,40}(?:\+|\band\b|\bplus\b|\bor\b)[^\n.]{0,40}"
    r"(?:max\w*tokens|output|completion)"
    r"|max_tokens must be at least 1, got -"
    r"|in the (?:messages|prompt|completion)",
    _FLAGS,
)

_RATE = lazy_pattern(
    r"tokens?(?: \w+)? per (?:minute|day|hour|second)|requests? per (?:minute|day|hour|second)"
    r"|\bconcurren(?:t|cy)\b"
    r"|\b(?:TPM|RPM|TPD|RPD|TPS)\b|rate.?limit|too many requests|\bper[- ](?:minute|second)\b",
    _FLAGS,
)


def is_rate(text: str) -> bool:
    """Whether a text is about requests or tokens in a time."""
    return _RATE.search(text) is not None


def is_output_limit(text: str) -> bool:
    """Whether a text says that the requested limit of the output is too high."""
    return _OUTPUT_LIMIT.search(text) is not None and _SUM.search(text) is None


def is_context_overflow(text: str, *, too_large: bool = False) -> bool:
    """Whether a text says that the input is longer than the model, or the server, accepts.

    `too_large`: the status says so already (413), so that a text need only not contradict.
    """
    if is_rate(text) or is_output_limit(text) or _OTHER_INPUT.search(text):
        return False
    found = _OVERFLOW.search(text)
    if found is None:
        return too_large and text != "" and _OTHER_QUANTITY.search(text) is None
    before = text[: found.end()]
    if _COUNTED.search(found[0]):
        return False
    other = _OTHER_QUANTITY.search(before)
    return other is None or _OF_TEXT.search(found[0]) is not None


# --- the account ------------------------------------------------------------------------------

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "exceeded_current_quota_error",  # Moonshot
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "1113",  # Z.ai
        "1308",  # Z.ai: the plan is used up for hours or days, or has expired
        "1309",
        "1310",
        "1008",  # MiniMax
        "gousagelimiterror",  # OpenCode Zen
        "freeusagelimiterror",
        "usage_limit_reached",
        "usage_limit_exceeded",
    }
)
_LONG = (
    r"(?:weekly|monthly|annual|yearly|daily|(?:\d+|five)[- ]?(?:hours?|h|days?)|usage|plan|free)"
)
_PLAN = lazy_pattern(
    rf"\b{_LONG}(?:[ /-]\w+){{0,3}} (?:limit|quota|allowance)s?\b[^\n]{{0,80}}"
    r"\b(?:resets?|exhausted|used up|upgrade|reached your|until)\b"
    rf"|\b(?:reached|exceeded|exhausted|hit|used up)\b[^\n.]{{0,30}}\b(?:weekly|monthly|annual"
    r"|yearly|usage|plan)(?:[ /-]\w+){0,2} (?:limit|quota|allowance)"
    r"|\b(?:usage|weekly|monthly)(?:/\w+)? limit (?:has been |was |is )?"
    r"(?:reached|exceeded|exhausted|hit)"
    r"|\b(?:plan|package|subscription)\b[^\n.]{0,30}\b(?:has |is |was )?(?:expired|used up|ended)",
    _FLAGS,
)
_QUOTA = lazy_pattern(
    r"insufficient.{0,20}(quota|balance|credit|funds)|exceeded your (current|monthly) quota"
    r"|quota exceeded|out of credits|billing|payment required",
    _FLAGS,
)
_CREDIT = lazy_pattern(
    r"credit balance is too low|out of credits|payment required"  # Anthropic, with 400
    r"|insufficient (account )?(balance|credits?|funds)|exceeded your current quota",
    _FLAGS,
)
KEY_CODES = frozenset(
    {
        "invalid_api_key",
        "incorrect_api_key",
        "api_key_invalid",  # Gemini
        "authentication_error",
        "invalid_authentication_error",  # Moonshot
        "invalid_authentication",
        "unauthenticated",
        "unauthorized",
    }
)
_KEY_NOUN = r"(api|access|subscription|secret|auth\w*)[ _-]?(key|token|credential)s?\b"
_KEY = lazy_pattern(
    r"\b(incorrect|invalid|wrong|bad|unknown|expired|revoked|disabled|missing|malformed|no)"
    rf" (\w+ ){{0,2}}{_KEY_NOUN}"
    rf"|\b{_KEY_NOUN}.{{0,60}}\b(invalid|incorrect|expired|revoked|disabled|wrong|missing|required"
    r"|not (valid|found|recogni[sz]ed|provided|active|exist))\b"
    r"|invalid (bearer|authentication|authorization|credentials?)\b|no auth credentials"
    r"|\b(authentication|authorization) (failed|fails|failure|error|required)|^unauthori[sz]ed"
    r"|login fail",  # MiniMax
    _FLAGS,
)
_FIRST_WORDS = 300
"""In how many characters an upstream says what is wrong; behind them some quote the request."""


def is_plan_limit(text: str) -> bool:
    """Whether a plan is used up, for hours or days: a retry in a minute does not help."""
    return _PLAN.search(text) is not None and not is_rate(text)


def is_quota(text: str) -> bool:
    """Whether an account, or its plan, has nothing left."""
    found = _QUOTA.search(text)
    if found is not None and not (found[0].lower() == "billing" and is_rate(text)):
        return True  # Groq's rate limits end in the address of its page on billing
    return is_plan_limit(text)


def lacks_credit(text: str) -> bool:
    """Whether an account has no money left, whatever the status."""
    return _CREDIT.search(text[:_FIRST_WORDS]) is not None


def lacks_key(text: str) -> bool:
    """Whether the key is said to be wrong."""
    return _KEY.search(text[:_FIRST_WORDS]) is not None


# --- the server and its model -----------------------------------------------------------------

MODEL_FAILURE_CODES = frozenset(
    {
        "tool_use_failed",  # Groq
        "malformed_function_call",  # Gemini
        "tool_call_parse_error",
        "invalid_tool_call",
        "model_output_parse_error",
        "output_parse_failed",  # Groq
        "json_validate_failed",  # Groq
        "harmonyerror",
    }
)
_CALL = r"(?:(?:tool|function)[ _-]?(?:calls?|use|calling)|function)"
_MODEL_FAILURE = lazy_pattern(
    rf"failed to (?:call a function|(?:parse|decode|generate|extract|validate) (?:\S+ ){{0,4}}?"
    rf"(?:{_CALL}|(?:model |generated )?(?:output|response|generation|completion)))"
    rf"|(?:error|failure|problem) (?:while |in |when )?(?:pars|decod|generat|extract)ing "
    rf"(?:\S+ ){{0,4}}?(?:{_CALL}|(?:model |generated )?(?:output|response|generation))"
    rf"|(?:could not|cannot|can't|unable to) (?:be )?(?:parse|decode|extract)d? "
    rf"(?:\S+ ){{0,4}}?(?:{_CALL}|(?:model |generated )?(?:output|response|generation))"
    rf"|(?:invalid|malformed|bad|broken) {_CALL} (?:arguments|json|format|syntax)"
    rf"|malformed (?:tool|function)[ _]call|{_CALL} validation failed"
    r"|model did not call a (?:tool|function)"
    r"|(?:model|llm) (?:has )?(?:produced|generated|returned|wrote|emitted|output) (?:an? )?"
    r"(?:\w+ ){0,2}?(?:invalid|malformed|unparsa?ble|output that does not match)"
    rf"|(?:{_CALL}|\b(?:output|generation|response|completion))\b[^\n.]{{0,30}}"
    r"(?:could not|cannot|can't|failed to) be (?:parsed|decoded)"
    r"|\b(?:model|generated)\b[^\n.]{0,40}(?:not valid json|invalid json|\bmalformed)"
    rf"|{_CALL} (?:output )?parser (?:failed|error)|(?:invalid|malformed) json in (?:the )?{_CALL}"
    rf"|{_CALL} arguments[^\n.]{{0,40}}generated by the model"
    r"|harmony ?(?:error|pars)|unexpected tokens remaining in message header"
    r"|failed_generation|generated (?:invalid|malformed) (?:json|tool)",
    _FLAGS,
)
_OF_REQUEST = lazy_pattern(
    r"\bmessages?[\[.]|\btool_call_id\b|in (?:the )?(?:messages|history|input)\b"
    r"|(?<!request\.)\btools\b|\b(?:json|function|tool|parameters?)[ _]schema\b"
    r"|\bresponse_format\b|\b(?:tool|function) (?:definition|declaration)s?\b"
    r"|\bmust be an? (?:valid )?(?:json )?string\b",
    _FLAGS,
)
"""Words of the history, the tools or the format: the client's, not the model's."""

_UNWELL = lazy_pattern(
    r"\bdegraded\b|\b(?:model|engine|worker|server|instance|backend|deployment|endpoint|replica"
    r"|runner|service|llama runner process)\b(?: \w+){0,2}? (?:has |have |was |is |are )?"
    r"(?:crashed|died|dead|terminated|unloaded|unhealthy|restart(?:ing|ed)|starting|warming up"
    r"|exited|reloading|being loaded"
    r"|still (?:loading|starting)|loading|not (?:yet )?(?:ready|running|loaded|healthy)"
    r"|temporarily unavailable)"
    r"|\b(?:backend|server|instance|worker|replica)\b (?:is |are )?(?:not available|unavailable)"
    r"|\b(?:still )?loading (?:the )?model|no healthy (?:upstream|backend|instance|worker)"
    r"|\bcold start|\bout of memory\b|\bCUDA (?:error|out)",
    _FLAGS,
)
_OVERLOADED = lazy_pattern(r"overloaded|over capacity|capacity exceeded", _FLAGS)
_UNKNOWN_FUNCTION = lazy_pattern(r"\bfunction\b[^\n]{0,80}\bnot found for account", _FLAGS)
_CLIENTS_FAULT = lazy_pattern(
    r"\bjinja\b|\btemplate(?:error| error| exception|runtimeerror)|raise_exception"
    r"|apply_chat_template|\b(?:chat|prompt|template)\b[^\n]{0,20}\brender|\brender\w* (?:the )?"
    r"(?:chat|prompt|template|conversation)"
    r"|(?:unsupported|invalid|unknown) (?:value for )?[`'\"]?reasoning[_ ]effort"
    r"|\breasoning[_ ]effort[`'\"]? (?:must|should|may|can) (?:only )?be "
    r"|\b(?:image|audio|video|multimodal|vision)\w*(?: \w+){0,2} (?:is |are )?"
    r"(?:not supported|unsupported)|mmproj|does not support (?:image|audio|video|vision)"
    r"|not a (?:multimodal|vision) model|roles? must alternate",
    _FLAGS,
)


def is_model_failure(text: str) -> bool:
    """Whether the model has written what its server could not read: another answer may be fine."""
    said = unquoted(text)
    return _MODEL_FAILURE.search(said) is not None and _OF_REQUEST.search(text) is None


def is_unwell(text: str) -> bool:
    """Whether a server reports its own state, as if the request were at fault."""
    return _UNWELL.search(unquoted(text)) is not None


def is_overload(text: str) -> bool:
    """Whether a server has too much to do."""
    return _OVERLOADED.search(text) is not None


def names_model(text: str) -> bool:
    """Whether a 404 is about the model; NVIDIA calls one a function."""
    return "model" in text.lower() or _UNKNOWN_FUNCTION.search(text) is not None


def is_clients_fault(text: str) -> bool:
    """Whether a 500 is about the request: llama.cpp and vLLM report errors of templates so."""
    return _CLIENTS_FAULT.search(text) is not None
