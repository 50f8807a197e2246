"""The process: sockets, uvicorn, workers, graceful shutdown."""
