"""The live progress of exchanges: board, terminal, feed file."""
