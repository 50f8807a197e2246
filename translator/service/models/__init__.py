"""The model table: the upstream of each model, its information for clients, the Codex catalog."""
