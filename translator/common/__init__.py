"""Code shared by both directions of the translation.

Begin with `tools`, which maps every kind of tool to a function and back. Beside it: sealed
reasoning, JSON Schema rewriting, incremental JSON decoding, decoding errors, TOML text.
"""
