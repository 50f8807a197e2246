"""`translator key`: keys by which the service knows its clients."""

from __future__ import annotations

import argparse

from translator.common.toml import toml_key

from .settings import service_needed
from .terminal import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "key",
        help="make a key for a client of the service",
        description="Makes the keys of [clients] in a settings file. The key itself is shown once "
        "and kept nowhere; the file holds a hash by which it is known.",
    )
    parser.add_argument("action", choices=("new",), help="make a key that nobody can guess")
    parser.add_argument("name", metavar="NAME", type=_name, help="whose key it is")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with service_needed("key"):
        from translator.service.base.keys import new_key, store
    key = new_key()
    name: str = options.name
    print(f"The key of {name}, shown only now. Its client sends it as Authorization: Bearer KEY.")
    print(f"\n{key}\n")
    print("For the settings file, in place of the key:")
    print(f'\n[clients.{toml_key(name)}]\nkeys = ["{store(key)}"]')
    return 0


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("a client needs a name that can be printed")
    return text
