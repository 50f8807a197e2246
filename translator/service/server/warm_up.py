"""Warm-up: a thread loads, after the start, what the first answers do not need.

    imports of the rest, start, first answers, │ WebSocket protocol, grammars of errors
                                               └ WARM_UP_AFTER_S

Done at the start, it would delay the first answer by a quarter. Done at the first WebSocket, or the
first error of an upstream, it would stall all streams for some 50 ms. A thread stalls them for no
longer than Python lets it run while others wait: 5 ms (`sys.getswitchinterval`).

Nothing waits for it: whatever it has not loaded yet is loaded where it is used.
"""

from __future__ import annotations

import threading

from translator.common.lazy_pattern import compile_lazy_patterns

WARM_UP_AFTER_S = 1.0
"""Seconds from the first moment in which requests can be answered."""


def warm_up_later(*, websocket: bool) -> threading.Timer:
    """Begin in WARM_UP_AFTER_S. The end of the process does not wait for it."""
    timer = threading.Timer(WARM_UP_AFTER_S, warm_up, kwargs={"websocket": websocket})
    timer.name = "warm-up"
    timer.daemon = True
    timer.start()
    return timer


def warm_up(*, websocket: bool) -> None:
    if websocket:
        from . import websocket_protocol

        del websocket_protocol
    compile_lazy_patterns()
