"""What is told of requests: to the log, to metrics and traces, and to whoever looks on."""
