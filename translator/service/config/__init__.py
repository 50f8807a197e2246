"""Settings: their structs, loading, and validation with the path of each mistake."""
