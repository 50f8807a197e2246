"""Access: client keys, the models that a client may use, rate limits and charges.

Begin with `client`, which says what a client is; `clients` are those of the settings. `cost` says
what a request costs, `rate_limit` is the token bucket, `token_meter` counts the text of answers
that are passed through, and `shared_limits` shares the counts of several workers.
"""
