"""`translator demo`: shows a streamed request on both sides of the service."""

from __future__ import annotations

from .common import Commands
from .settings import service_imports


def add(commands: Commands) -> None:
    commands.add_parser(
        "demo",
        help="show a streamed request on both sides of the service; needs no key and no network",
        description="",  # the demo parses its own options
    )


def run(words: list[str]) -> int:
    with service_imports("demo"):
        from translator.demo import conversation as demo
    return demo.run(words)
