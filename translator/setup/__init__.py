"""Configuration files for Codex CLI and OpenCode."""
