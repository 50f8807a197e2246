"""Captures: recorded exchanges as folders, replayed through the core and made into fixtures.

`translator serve --trace` writes them. Begin with `folder`, the format; `run` runs an exchange
through the core, `replay` compares the outcome with the capture, `fixture` makes a test case.
"""
