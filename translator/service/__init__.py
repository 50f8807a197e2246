"""The service around the pure core: everything that can wait or fail over a network."""
