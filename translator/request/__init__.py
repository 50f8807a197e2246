"""A Responses request becomes a chat request."""
