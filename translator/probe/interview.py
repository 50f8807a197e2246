"""The order in which an unknown upstream is asked.

    interview = first answer, usage, whole answer, limit, thinking, roles, parameters,
                structured output, [ tools, parallel calls, [ format beside tools ], choices,
                history ], picture ;

Every topic is a generator that yields questions and is sent their outcomes: nothing here waits for
a network. What is found goes into the notebook.
"""

from __future__ import annotations

from . import tools, topics
from .notebook import Asking, Notebook


def interview(book: Notebook) -> Asking[None]:
    """All questions; raises CouldNotAsk when the first one is not answered."""
    hello = yield from topics.hello(book)
    yield from topics.usage(book, hello)
    yield from topics.whole(book)
    yield from topics.completion_limit(book)
    yield from topics.thinking(book, hello)
    yield from topics.developer(book)
    yield from topics.system(book)
    yield from topics.parameters(book)
    follows_schemas = yield from topics.formats(book)
    if (calls := (yield from tools.tools(book))) is not None:
        yield from tools.parallel(book, calls)
        if follows_schemas:
            yield from tools.format_beside(book, calls)
        yield from tools.choices(book, calls)
        yield from tools.history(book)
    yield from topics.picture(book)
