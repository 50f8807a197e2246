"""To be written."""


def pytest_sessionfinish() -> None:
    pass


def pytest_terminal_summary() -> None:
    pass
