"""Mutation testing of the fast paths: `python -m tests.mutants`, or `make mutants`."""
