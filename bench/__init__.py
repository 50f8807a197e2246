"""What things cost, side by side in one run: the numbers to trust are the ratios."""
