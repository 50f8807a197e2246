"""Real clients of a service with accounts: empty ones, and what they see of their balance."""
