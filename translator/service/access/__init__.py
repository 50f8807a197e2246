"""Access: client keys, the models that a client may use, rate limits and charges.

Begin with `clients`. `rate_limit` is the token bucket, `token_meter` counts the tokens of answers
that are passed through.
"""
