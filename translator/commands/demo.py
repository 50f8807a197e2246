"""`translator demo`: a streamed request through all of it, without key or network."""

from __future__ import annotations

from .common import Commands
from .settings import service_needed


def add(commands: Commands) -> None:
    commands.add_parser(
        "demo",
        help="show a streamed request on both sides of the wire; needs no key and no network",
        description="",  # its options are its own, and so is its help
    )


def run(words: list[str]) -> int:
    with service_needed("demo"):
        from translator.demo import conversation as demo
    return demo.run(words)
