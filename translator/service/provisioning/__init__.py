"""Provisioning: the JSON API of operators under `/account/api`, one noun per path.

    Request  ──►  Api  ──►  Answer

Begin with `api`, which knows the paths and runs each request in one transaction. `bodies` are what
requests say, `objects` what answers show, `resources` the work between them, functions of an
`Order` and a connection; `idempotency` makes a request that is sent twice happen once. Loaded only
with `[accounts]`.
"""
