"""The model table: which upstream serves a model, and how clients see it."""
