"""Generates the tables of settings and metrics in docs/operations.md.

    python -m tests.operations_page

Each table is between two marks, <!-- NAME --> and <!-- /NAME -->; the rest is written by hand.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from translator.service.config.accounts import AccountsSection
from translator.service.config.clients import ClientSection
from translator.service.config.loading import read_table
from translator.service.config.mcp import McpSection, McpServerSection
from translator.service.config.settings import ModelSection, Server, UpstreamSection
from translator.service.config.store import StoreSection
from translator.service.config.tools import PagesSection, SearchSection, ToolsSection
from translator.service.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations.md"
COMMAND = "python -m tests.operations_page"

SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "[server]": Server,
    "[upstreams.NAME]": UpstreamSection,
    '[models."ID"]': ModelSection,
    "[clients.NAME]": ClientSection,
    "[store]": StoreSection,
    "[accounts]": AccountsSection,
    "[tools]": ToolsSection,
    "[tools.search]": SearchSection,
    "[tools.pages]": PagesSection,
    "[tools.mcp]": McpSection,
    "[tools.mcp.NAME]": McpServerSection,
}
_KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def block(text: str, name: str) -> str | None:
    """The text between the marks of that name; None without marks."""
    found = _marked(name).search(text)
    return found[0] if found else None


def _marked(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def settings() -> str:
    """All settings, with their defaults and meanings."""
    parts: list[str] = []
    for title, struct in SECTIONS.items():
        documented = meanings(struct)
        parts.append(f"\n### `{title}`\n\n| setting | default | meaning |\n|---|---|---|\n")
        for field in msgspec.structs.fields(struct):
            default = field.default
            if default is msgspec.NODEFAULT:
                default = field.default_factory()  # type: ignore[misc]
            words = [documented[field.name]] if documented[field.name] else []
            if not words and field.name in Server.__struct_fields__:
                words.append("Overrides the setting of `[server]`.")
            if known := _words(field.type):
                words.append(f"One of {', '.join(f'`{word}`' for word in known)}.")
            text = " ".join(words).replace("|", "\\|")
            parts.append(f"| `{field.name}` | {shown(default)} | {text} |\n")
    return "".join(parts) + "\n"


def meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring of each field; empty without one."""
    tree = ast.parse(inspect.getsource(sys.modules[struct.__module__]))
    [body] = [
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == struct.__name__
    ]
    found = dict.fromkeys(struct.__struct_fields__, "")
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[node.target.id] = " ".join(str(after.value.value).split())
    return found


def shown(default: object) -> str:
    """A default as TOML writes it."""
    if default is None or default == "" or default == {}:
        return ""
    if isinstance(default, tuple):
        return f"`[{', '.join(map(json.dumps, default))}]`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{json.dumps(default)}`"


def _words(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next(filter(None, map(_words, get_args(kind))), ())


def every_metric() -> Metrics:
    """Metrics of settings that use everything: a few are there for those only."""
    models = {
        "a": {"upstream": "up", "vision": False, "describe_images_with": "b"},
        "b": {"upstream": "up"},
    }
    upstreams = {"up": {"base_url": "http://up.test"}}
    tools = {"search": {"backend": "searxng", "url": "http://search.test"}}
    rooms = {"store": {}, "accounts": {}, "tools": tools}
    table = {"upstreams": upstreams, "models": models, **rooms}
    return Metrics(read_table(table, {}))


def instruments() -> Iterator[MetricWrapperBase]:
    """All counters, gauges and histograms of it."""
    made = every_metric()
    wholes = (made, made.store, made.accounts, made.tools)
    for one in (part for whole in wholes for part in vars(whole).values()):
        if isinstance(one, MetricWrapperBase):
            yield one


def metrics() -> str:
    """All metrics, with their labels."""
    lines = ["| metric | kind | labels | meaning |\n|---|---|---|---|\n"]
    for one in instruments():
        name = f"{one._name}_total" if isinstance(one, Counter) else one._name
        labels = ", ".join(f"`{label}`" for label in one._labelnames)
        lines.append(f"| `{name}` | {_KINDS[type(one)]} | {labels} | {one._documentation} |\n")
    return "".join(lines)


BLOCKS: Mapping[str, Callable[[], str]] = {"settings": settings, "metrics": metrics}


def main() -> int:
    text = PAGE.read_text("utf-8")
    for name, write in BLOCKS.items():
        if block(text, name) is None:
            print(f"{PAGE.name} has no lines <!-- {name} --> and <!-- /{name} -->", file=sys.stderr)
            return 1
        made = write()
        text = _marked(name).sub(lambda _, made=made: made, text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
