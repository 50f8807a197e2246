"""Exchanges recorded as folders: reading them, replaying them, making fixtures of them."""
