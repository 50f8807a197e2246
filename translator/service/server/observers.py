"""Who looks on in a process that serves: a trace, a live view, both, or nobody."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from translator.service.capture.trace import Trace
from translator.service.config.settings import Settings, SettingsError
from translator.service.live.feed import Feed
from translator.service.live.progress import Watcher
from translator.service.live.terminal import Show
from translator.service.observe.fan_out import together
from translator.service.observe.observer import Watch

FEED_PROGRESS_S = 1.0
"""How often growth alone goes into the feed, in seconds."""


@contextmanager
def observing(settings: Settings, show: Show | None) -> Generator[Watch | None]:
    """The `Watch` that these settings ask for. Raises SettingsError for a folder of no use."""
    with ExitStack() as open_ones:
        watches: list[Watch] = []
        folder = settings.server.trace_folder
        if folder is not None:
            watches.append(open_ones.enter_context(closing(Trace(settings))))
            try:
                feed = open_ones.enter_context(closing(Feed(Path(folder))))
            except OSError as error:
                raise SettingsError([f"trace: {error.filename}: {error.strerror}"]) from None
            watches.append(Watcher(feed.tell, progress_s=FEED_PROGRESS_S))
        if show is not None:
            watches.append(Watcher(show.tell))
        yield together(watches)
