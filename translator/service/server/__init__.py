"""The service as processes: how they start, share a port and stop."""
