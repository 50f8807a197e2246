"""The HTTP client: connections, streams, retries, replicas and health of upstreams.

    client ──► retries ──► replicas ──► transport ──► connection ──► body ──► streams

Begin with `client`. `connection` pumps chunks to a sink; `transport_errors` is the one table of
what can go wrong on the way, and `error_kinds` has one word for each error.
"""
