"""Deltas become Responses events: the state machine, the open items, SSE encoding."""
