"""The store: responses that outlive their request, in a database of their own.

Begin with `tables`. `room` is its place in the database room, `migrations` its history. `upkeep` is
what `translator store` does. Loaded only with a `[store]` section.
"""
