"""Bytes that nobody would send: three targets, their seeds from the fixtures, and a driver.

`make fuzz` runs the coverage-guided driver; `tests/test_fuzz.py` runs the same targets on the seeds
and on mutations of them.
"""
