"""The accounts: keys, channels, limits, prices and balances of clients, in a database.

Begin with `directory`, which the service asks who sends a request and by which it holds and settles
what that costs; `client` is one of them, `keys` what is known of its key, and `known_keys` finds
it. `holds`, `extensions` for further rounds, and `settlements` are the transactions, by the
`statements`; `rounds`, `bills`, `sizes`, `money`, `allowances` and `periods` compute, `tools` names
what is called. `books`, `channel_book`, `price_book` and `key_book` are what an operator does to
accounts, channels, prices and keys, in the transactions of `changes`; `usage` reads for their
owners, whose meters read `meters` and `usage_report`; `listings` reads for operators' programs,
which `operator_keys` let in, and `reconcile` compares it all. `room` is the place in the database
room, `migrations` its history. Loaded only with an `[accounts]` section.
"""
