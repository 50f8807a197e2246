"""A scripted upstream and client, for a demonstration without key or network."""
