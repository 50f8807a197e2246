"""The observers of a process: a trace, a live view, both, or none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from translator.service.config.settings import Settings, SettingsError
from translator.service.observe.fan_out import fan_out
from translator.service.observe.observer import ObserverFactory

if TYPE_CHECKING:
    from translator.service.live.terminal import LiveView

FEED_INTERVAL_S = 1.0
"""Shortest time between two reports of growth in the feed, in seconds."""


@contextmanager
def observing(settings: Settings, show: LiveView | None) -> Generator[ObserverFactory | None]:
    """The observers that the settings ask for; raises SettingsError for an unusable folder."""
    if settings.server.trace_folder is None and show is None:
        yield None
        return
    from translator.service.capture.writer import CaptureWriter
    from translator.service.live.feed import FeedWriter
    from translator.service.live.progress import ProgressObserverFactory

    with ExitStack() as open_ones:
        factories: list[ObserverFactory] = []
        folder = settings.server.trace_folder
        if folder is not None:
            factories.append(open_ones.enter_context(closing(CaptureWriter(settings))))
            try:
                feed = open_ones.enter_context(closing(FeedWriter(Path(folder))))
            except OSError as error:
                raise SettingsError([f"trace: {error.filename}: {error.strerror}"]) from None
            factories.append(ProgressObserverFactory(feed.write, interval_s=FEED_INTERVAL_S))
        if show is not None:
            factories.append(ProgressObserverFactory(show.update))
        yield fan_out(factories)
