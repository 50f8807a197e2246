"""Writes each exchange to a folder, with the secrets removed."""
