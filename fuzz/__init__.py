"""Fuzzing: three targets, seeds from the fixtures, and a coverage-guided driver.

Open `targets` first. `make fuzz` runs the driver; `tests/test_fuzz.py` runs the same targets on the
seeds and on mutations of them.
"""
