"""Capture: writes each exchange to a folder that `translator.captures` reads and replays.

`writer` (read it first) makes an `observer` for each request, which collects an `exchange` from
references to what the service handles anyway. When the request has ended, a thread applies the
`redaction` of secrets to the `files` of the exchange, and writes them.
"""
