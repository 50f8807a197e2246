"""The models that can be asked for, and what clients are told about them."""
