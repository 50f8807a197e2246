"""Set-up of clients: configuration files for Codex CLI and OpenCode.

Begin with `client`, what both need; `codex` and `opencode` write the files, `toml_text`
and `json_members` edit without touching the rest of a file. `undo` knows what was written.
"""
