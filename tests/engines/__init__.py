"""Tests against real engines: `make engines`."""
