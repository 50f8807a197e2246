"""Settings: structs, loading, and validation that reports every mistake with its path."""
