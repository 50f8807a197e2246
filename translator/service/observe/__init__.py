"""The record of a request, and observers of its events."""
