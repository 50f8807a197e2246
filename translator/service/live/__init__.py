"""The live view: what each exchange is doing now, on a terminal or through a file.

`progress` (read it first) observes an exchange and reports its `Progress`: phase, tokens, speed. A
`board` holds the latest progress of each active exchange. `terminal` draws it for `serve --watch`;
`feed` writes it as JSON Lines, and reads it for `translator tail`.
"""
