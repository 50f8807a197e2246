"""The real Codex CLI, with all of its vocabulary, on models that speak only Chat Completions."""
