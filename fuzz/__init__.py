"""Fuzzing: four targets, their seeds, and a coverage-guided driver.

Open `targets` first. `sse`, `request` and `receive` take their input as it is, `calls` builds an
answer from it. `make fuzz` runs the driver, an equal time for each target; `tests/test_fuzz.py`
runs the same targets on the seeds and on mutations of them.
"""
