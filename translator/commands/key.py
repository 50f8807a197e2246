"""`translator key`: creates keys for clients of the service."""

from __future__ import annotations

import argparse

from translator.common.toml import toml_key

from .common import Commands
from .settings import service_imports


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "key",
        help="create a key for a client of the service",
        description="Creates a key for [clients] of a settings file. The key is shown once and "
        "stored nowhere; the settings file holds its hash.",
    )
    parser.add_argument("action", choices=("new",), metavar="new", help="create a random key")
    parser.add_argument("name", metavar="NAME", type=_name, help="name of the client")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_imports("key"):
        from translator.service.base.keys import new_key, store
    key = new_key()
    name: str = options.name
    print(f"Key of {name}, shown only once. The client sends it as Authorization: Bearer KEY.")
    print(f"\n{key}\n")
    print("Add its hash to the settings file:")
    print(f'\n[clients.{toml_key(name)}]\nkeys = ["{store(key)}"]')
    return 0


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("the name must not be empty, and must be printable")
    return text
