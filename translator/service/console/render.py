"""Pages as HTML: the templates, and how amounts, times and counts look in them.

Jinja2 escapes whatever it is given, and a name that is missing is an error. An amount is shown with
two decimals where it is a balance, with six where it is what a request cost, and its `title` has
all twelve.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup

from translator.service.accounts.money import PRICE, shown, shown_down
from translator.service.accounts.periods import shown_time

_FOLDER = Path(__file__).parent

CONTENT_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files beside the pages."""

FOREVER = "public, max-age=31536000, immutable"


@cache
def asset(name: str) -> tuple[bytes, str]:
    """A file beside the pages, and the path that names its content."""
    data = (_FOLDER / "static" / name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    return data, f"/account/static/{digest}/{name}"


def balance(amount: int) -> Markup:
    """What there is: two decimals, rounded down."""
    return _amount(amount, shown_down(amount))


def cost(amount: int) -> Markup:
    """What a request cost: six decimals, of a smaller one as many as it needs."""
    places = 10**6
    cut = abs(amount) // places * places
    exact = shown(amount)
    if abs(amount) and not cut:
        return _amount(amount, exact)
    whole, _, decimals = shown(cut).partition(".")
    sign = "-" if amount < 0 else ""
    return _amount(amount, f"{sign}{whole}.{decimals.ljust(6, '0')}")


def _amount(amount: int, text: str) -> Markup:
    return Markup('<span class="amount" title="{}">{}</span>').format(shown(amount), text)


def price(amount: int | None) -> str:
    """A price per million tokens; None is that of the input."""
    return "as input" if amount is None else shown(amount, unit=PRICE)


def moment(at: int | None) -> Markup:
    """A time, in UTC."""
    if at is None:
        return Markup("–")
    text = shown_time(at)
    machine = text.replace(" ", "T")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(machine, text, text[:16])


def count(number: int | None) -> Markup:
    """A number with narrow spaces between its thousands."""
    return Markup("–" if number is None else f"{number:,}".replace(",", "\u202f"))


def lines(text: str) -> Markup:
    """A text of several lines, each as `visible` has it."""
    return Markup("\n").join(visible(line) for line in text.split("\n"))


def visible(text: str) -> str:
    """A text whose every character shows: a name must not pass for another one."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_finalize,
    )
    shown_by = (balance, cost, count, lines, moment, price)
    made.filters.update({one.__name__: one for one in shown_by})
    return made


def _finalize(value: Any) -> Any:  # noqa: ANN401 - whatever a template names
    """What a template writes: text whose every character shows."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def page(template: str, /, **values: Any) -> bytes:  # noqa: ANN401 - whatever it names
    """A page."""
    found = _environment().get_template(f"{template}.html")
    return found.render({"asset": _path, **values}).encode("utf-8", "replace")


def _path(name: str) -> str:
    """The path of a file beside the pages."""
    return asset(name)[1]
