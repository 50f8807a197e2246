"""The accounts: keys, channels, limits, prices and balances of clients, in a database.

Begin with `directory`, which the service asks who sends a request and by which it holds and settles
what that costs; `client` is one of them, and `keys` what is known of its key. `holds`,
`extensions` for further rounds, and `settlements` are the transactions, by the `statements`;
`rounds`, `bills`, `sizes`, `money`, `allowances` and `periods` compute, `tools` names what is
called. `books` is what an operator does to accounts, channels and prices, `key_book` to keys;
`usage` reads for their owners, whose meters read `meters` and `usage_report`; `listings` reads for
operators' programs, which `operator_keys` let in, and `reconcile` compares it all. `new_price` says
what a price needs. `room` is the place in the database room, `migrations` its history. Loaded only
with an `[accounts]` section.
"""
