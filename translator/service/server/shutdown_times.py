"""How long the phases of a graceful shutdown may take, in seconds; `graceful_shutdown` has them."""

from __future__ import annotations

IDLE_LINGER_S = 0.5
"""How long an idle connection stays open for a request that its client may just be sending."""

END_S = 5.0
"""How long clients have to read the failure of a response that was stopped."""

CLOSE_S = 31.0
"""How long the last writes of a store, and the export of pending spans and traces, may take after
that."""

FORCE_S = 1.0
"""The same after a third Ctrl-C."""

SHUTDOWN_S = IDLE_LINGER_S + 2 * END_S + CLOSE_S + 2
"""How much longer than `drain_s` the shutdown of a process may take."""
