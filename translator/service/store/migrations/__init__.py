"""The migrations of the store, oldest first; each is run once, and never changed."""
