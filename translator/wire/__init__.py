"""The vocabularies: chat, items, responses, events, and the deltas between the protocols."""
