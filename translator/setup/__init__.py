"""Client set-up: writes the configuration files of Codex CLI and OpenCode."""
