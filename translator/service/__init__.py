"""The service: HTTP and WebSocket in front, upstreams behind, the core between."""
