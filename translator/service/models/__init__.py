"""The model table: which upstream serves a model, under which facts, and how clients see it.

Begin with `table`. `info` is what clients may know of a model; `codex_catalog` and `codex_prompt`
are the form in which Codex CLI wants it.
"""
