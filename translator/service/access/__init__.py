"""Client keys, rate limits, and what a request is charged."""
