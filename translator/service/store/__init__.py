"""The store: responses that outlive their request, in a database of their own.

Begin with `tables`, then `responses`, which the service uses: it has `recall` read what a request
refers to, `keep` write a response, `removal` delete one, and `sweep` what has expired, by the
`statements`. `resends` finds what need not be stored again, `quota` what is too much, for which
`owners` has sums. `shown` is what the API shows of an item. `room` is its place in the database
room, `migrations` its history. `upkeep` is what `translator store` does. Loaded only with a
`[store]` section.
"""
