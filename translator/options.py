"""Options of a translation: what an operator decides, and no client."""

from __future__ import annotations

from msgspec import Struct

from .common.tools import HostedTools
from .request.to_chat import FORWARDED_BY_DEFAULT
from .wire.deltas import MAX_ITEMS
from .wire.events import ReasoningEvents


class Options(Struct, frozen=True):
    """How an operator wants requests to be translated.

    `reasoning_events`: which family of events shows reasoning. `hosted_tools`: whether a tool that
    cannot run here is dropped with a notice, or refused. `strict`: a notice is an error. `forward`:
    fields beyond the Responses API that go upstream. `max_answer_bytes`: how much of an answer is
    held at most, its text in UTF-8 and some bytes for each small object. `max_output_items`: how
    many output items it may have, and calls. An answer beyond either fails with AnswerTooLarge.
    """

    reasoning_events: ReasoningEvents = "summary"
    hosted_tools: HostedTools = "drop"
    strict: bool = False
    forward: tuple[str, ...] = FORWARDED_BY_DEFAULT
    max_answer_bytes: int = 16 * 1024 * 1024
    max_output_items: int = MAX_ITEMS
