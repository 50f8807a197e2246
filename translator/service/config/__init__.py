"""Settings: structs, loading, and every mistake with its path.

Begin with `settings`, the structs. `loading` makes them from TOML or from the command line;
`sections`, `checks` and `facts` validate the parts.
"""
