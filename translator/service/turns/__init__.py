"""One turn: attempts upstream, and the events that its client gets."""
