"""The HTTP client: connections, streams, retries, replicas, health."""
