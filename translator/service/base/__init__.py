"""The base of the service: small modules that import none of its other folders.

`errors` has the HTTP errors that the service itself raises, `sinks` the consumers of body chunks,
`keys` the format of client keys, `redaction` the search for secrets, `trace_context` the W3C
headers; the others are a page each.
"""
