"""Finds out which dialect an upstream speaks, by asking it."""
