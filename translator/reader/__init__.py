"""A chat answer becomes deltas: SSE decoding, chunks, upstream errors."""
