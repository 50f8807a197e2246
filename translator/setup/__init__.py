"""Set-up of clients: configuration files for Codex CLI and OpenCode.

Begin with `client`, what both need; `codex` and `opencode` write the files, `toml_text` edits TOML
without touching the rest of a file.
"""
