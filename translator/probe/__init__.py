"""`translator probe`: which dialect an unknown upstream speaks, found by asking it."""
