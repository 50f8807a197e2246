"""An exchange that was kept as a folder: its files, its replay, the fixture that it becomes.

The service writes such folders (`translator serve --trace`); here they are read. It takes no more
than the core.
"""
