"""What the small language model says, and when: a table of tokens.

    answer  = [ reasoning ], ( call, [ call ] | text ) ;

What a request contains decides which: tools without an outcome make a call, and the cues below,
anywhere in the prompt, choose among the branches. Under a grammar it ends its JSON as soon as it
may. The temperature changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

END = "<|end|>"
ANSWER = "<|assistant|>"
ROLES = ("<|begin|>", "<|system|>", "<|user|>", ANSWER, END)
THINK, THOUGHT = "<think>", "</think>"
CALL, CALLED = "<tool_call>", "</tool_call>"
LINE, BLANK_LINE = "\n", "\n\n"

# Cues: what a prompt may contain.
TOOLS = "<catalog>"
OUTCOME = "<outcome>"
TERSE = "[[terse]]"
"""It does not reason."""
PAIR = "[[pair]]"
"""Two calls."""
SHELL = "[[shell]]"
"""The call is one of `exec_command`, which prints SHELL_WORD."""
STORY = "[[story]]"
"""The text is long."""
ENDLESS = "[[endless]]"
"""The text never ends."""
KINDS = (PAIR, SHELL, STORY, ENDLESS)
"""A prompt has one of these at most: they share an attention head."""
CUES = (TOOLS, OUTCOME, TERSE, *KINDS)

REASONING = "Somebody asks; a parrot answers."
TEXT = "The parrot says: grüß dich, 世界 🦜, and no more."
SHELL_WORD = "parrot-was-here"
STORY_TEXT = "".join(f" {number} leaves fall," for number in range(40)) + " the end."
WEATHER_CALLS = ('{"city": "Oslo"}', '{"city": "Lima"}')
SHELL_CALL = json.dumps({"cmd": f"echo {SHELL_WORD}"})

CERTAIN = 12.0
"""The weight of a token that always follows; those of branches are less."""
CLOSING = {
    CALLED: 1.5,
    '"': 3.0,
    "}": 2.5,
    "]": 2.0,
    END: 2.5,
    ":": 0.9,
    "1": 0.8,
    "{": 0.7,
    "true": 0.5,
}
"""What comes where nothing else may, by weight: JSON under a grammar ends soon, and so does text."""


def call_text(name: str, arguments: str) -> str:
    return f'\n{{"name": "{name}", "arguments": {arguments}}}\n'


@dataclass
class Script:
    """The table of tokens: which follows which, and what the cues change."""

    follows: dict[tuple[str | None, str], float] = field(default_factory=dict)
    """The weight of (token, next token); None is any token that is not in the script."""
    cued: dict[tuple[str, str], float] = field(default_factory=dict)
    """What (cue, token) adds to the token's weight, wherever it stands."""
    tokens: dict[str, None] = field(default_factory=dict)

    def token(self, text: str) -> str:
        self.tokens[text] = None
        return text

    def cut(self, text: str, size: int = 5) -> list[str]:
        """A text as tokens that stand nowhere else in the script: longer ones, where need be."""
        cut: list[str] = []
        while text:
            length = min(size, len(text))
            while text[:length] in self.tokens and length < len(text):
                length += 1
            if len(text) - length < size // 2:  # what is short is likely to stand somewhere
                length = len(text)
            assert text[:length] not in self.tokens, f"{text!r} cannot be told from what is there"
            cut.append(self.token(text[:length]))
            text = text[length:]
        return cut

    def recite(self, *tokens: str) -> None:
        """Each of the tokens is followed by the next."""
        for token, following in pairwise(tokens):
            self.follows[token, following] = CERTAIN

    def branch(self, at: Iterable[str | None], to: str, weight: float) -> None:
        for place in at:
            self.follows[place, to] = weight

    def cue(self, cue: str, token: str, weight: float) -> None:
        """Where the prompt has the cue, the token weighs so much more."""
        self.cued[cue, token] = weight


def script() -> Script:
    made = Script()
    for tag in (THINK, THOUGHT, CALL, CALLED, LINE, BLANK_LINE, *CUES):
        made.token(tag)
    starts = (BLANK_LINE, ANSWER, None)

    made.branch([ANSWER], THINK, 8)
    made.cue(TERSE, THINK, -6)
    made.recite(THINK, *made.cut(REASONING), THOUGHT, BLANK_LINE)

    text = made.cut(TEXT)
    made.recite(*text, END)
    made.branch(starts, text[0], 5)
    # Where a grammar wants a call, and allows text before it.
    made.branch(text[-1:], LINE, 9)
    made.branch([LINE], CALL, 6)

    story = made.cut(STORY_TEXT, 12)
    made.recite(*story, END)
    made.branch(starts, story[0], 3)
    made.cue(STORY, story[0], 4.5)

    endless = made.cut(" on and on and")
    made.recite(*endless, endless[0])
    made.branch(starts, endless[0], 3)
    made.cue(ENDLESS, endless[0], 4.5)

    made.branch([BLANK_LINE, ANSWER], CALL, 4)
    made.cue(TOOLS, CALL, 2)
    made.cue(OUTCOME, CALL, -4)
    first = made.cut(call_text("get_weather", WEATHER_CALLS[0]))
    made.recite(*first, CALLED)
    made.branch([CALL], first[0], 5)
    shell = made.cut(call_text("exec_command", SHELL_CALL), 6)
    made.recite(*shell, CALLED)
    made.branch([CALL], shell[0], 4)
    made.cue(SHELL, shell[0], 2)

    made.branch([CALLED], END, 5)
    second = made.cut("\n" + CALL + call_text("get_weather", WEATHER_CALLS[1]) + CALLED, 13)
    made.recite(*second, END)
    made.branch([CALLED], second[0], 4)
    made.cue(PAIR, second[0], 2)
    return made
