"""The console of accounts: pages under `/account` for their members and their operators.

    Request  ──►  Console  ──►  Response        no page needs JavaScript, and none has any

Begin with `console`, which knows the paths, who may ask for them, and what a change needs to be
believed. `sign_in` has the pages without a session. The others are functions of a `Visit` and of a
connection, so that a page shows one state of the database and a change is one transaction:
`overview`, `keys`, `offers`, `connect`, `usage` for members, `operator`, `prices` and `health`.
`render` makes HTML of them with the `templates`. Loaded only with `[accounts]`.
"""
