"""Calls to upstreams: what travels, what is sent again, and how an answer is read."""
