"""Observation of requests: the record, the context that carries it, and observers.

Begin with `observer`: the events of a request, and who gets them. `record` holds the facts for the
log line, `context` ties record, observer, client and charge together.
"""
