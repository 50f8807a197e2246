"""The observers of a process: a trace, a live view, both, or none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from translator.service.capture.trace import Trace
from translator.service.config.settings import Settings, SettingsError
from translator.service.live.feed import Feed
from translator.service.live.progress import Watcher
from translator.service.live.terminal import Show
from translator.service.observe.fan_out import fan_out
from translator.service.observe.observer import ObserverFactory

FEED_PROGRESS_S = 1.0
"""How often growth alone goes into the feed, in seconds."""


@contextmanager
def observing(settings: Settings, show: Show | None) -> Generator[ObserverFactory | None]:
    """The observers that the settings ask for; raises SettingsError for an unusable folder."""
    with ExitStack() as open_ones:
        factories: list[ObserverFactory] = []
        folder = settings.server.trace_folder
        if folder is not None:
            factories.append(open_ones.enter_context(closing(Trace(settings))))
            try:
                feed = open_ones.enter_context(closing(Feed(Path(folder))))
            except OSError as error:
                raise SettingsError([f"trace: {error.filename}: {error.strerror}"]) from None
            factories.append(Watcher(feed.tell, progress_s=FEED_PROGRESS_S))
        if show is not None:
            factories.append(Watcher(show.tell))
        yield fan_out(factories)
