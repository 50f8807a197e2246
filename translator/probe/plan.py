"""The order in which an unknown upstream is asked.

    interview = first answer, usage, whole answer, limit, thinking, roles, parameters,
                structured output, [ tools, parallel calls, [ format beside tools ], choices,
                history ], picture ;

Every topic is a generator that yields questions and is sent their outcomes: nothing here waits for
a network. What is found goes into the notebook.
"""

from __future__ import annotations

from . import checks, tool_checks
from .state import Asking, Notebook


def interview(book: Notebook) -> Asking[None]:
    """All questions; raises CouldNotAsk when the first one is not answered."""
    hello = yield from checks.hello(book)
    yield from checks.usage(book, hello)
    yield from checks.whole(book)
    yield from checks.completion_limit(book)
    yield from checks.thinking(book, hello)
    yield from checks.developer(book)
    yield from checks.system(book)
    yield from checks.parameters(book)
    follows_schemas = yield from checks.formats(book)
    if (calls := (yield from tool_checks.tools(book))) is not None:
        yield from tool_checks.parallel(book, calls)
        if follows_schemas:
            yield from tool_checks.format_beside(book, calls)
        yield from tool_checks.choices(book, calls)
        yield from tool_checks.history(book)
    yield from checks.picture(book)
