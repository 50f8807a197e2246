"""The check of a configuration: its settings, its upstreams, and a small request to each model."""
