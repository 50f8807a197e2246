"""What clients need in their own files to use the service, made from its settings."""
