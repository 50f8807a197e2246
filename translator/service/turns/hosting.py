"""What a turn needs of the hosted tools that the service runs: which ones, and a runner of calls.

Implemented by `service.tools` and `service.mcp`, where the settings have such tools; the turns know
it by this alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Raw

from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.common.tools import Toolset
from translator.request.parse import ParsedRequest
from translator.service.access.client import Client
from translator.service.base.ids import NewId
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import ToolName


class ToolRunner(Protocol):
    """Runs the calls of one response."""

    def name_of(self, call: HostedCall) -> ToolName:
        """The name of a call's tool in metrics."""
        ...

    def charged_as(self, call: HostedCall) -> str | None:
        """The name under which a call has a price; None where it has none."""
        ...

    async def run(self, call: HostedCall) -> Outcome:
        """What became of a call. It takes no longer than it must once it is cancelled."""
        ...


class Hosting(Protocol):
    """The hosted tools of the service."""

    @property
    def call_timeout_s(self) -> float:
        """Longest time for one call."""
        ...

    @property
    def calls_at_once(self) -> int:
        """Most calls of one response that run at the same time."""
        ...

    def hosted_for(self, client: Client | None) -> Hosted | None:
        """The tools that a client may have run, and their bounds; None where there are none."""
        ...

    async def for_request(
        self,
        context: RequestContext,
        parsed: ParsedRequest,
        earlier: Sequence[Raw] | None,
        authorization: str | None,
        new_id: NewId,
    ) -> Hosting:
        """What runs the tools of a request: other servers may have to be asked for theirs first.

        `earlier` are the items before its input. Raises TranslatorError for tools that cannot be
        had.
        """
        ...

    def runner(
        self,
        client: Client | None,
        authorization: str | None,
        tools: Toolset,
        said: Callable[[], bytes],
    ) -> ToolRunner:
        """A runner for one response of a client, or of whoever sends this `Authorization`.

        `tools` are the declarations. `said()` is the chat request of the latest round: what the
        user has said in it, and tools have found.
        """
        ...
