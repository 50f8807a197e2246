"""The page as HTML, whole without a script; the script only makes it live.

    content, sample, access  ──►  document

`Content` is what the script gets as JSON when another model is chosen, or a key was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Literal

from msgspec import Struct

from translator.service.base.version import VERSION

from .models import ListedModel
from .running import Row, Running
from .snippets import Snippet, Target, snippets
from .text import Markup, element, joined, printable

PLACEHOLDER = "MODEL"
"""The model in the snippets while none is known."""

MAX_NAME = 120
"""Longest id of a model that is shown, in characters."""

MAX_CHOICE = 200
"""Longest id that can be chosen for the set-ups."""

CONTENT_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files of the page beside the document."""

Live = Literal["open", "key", "none"]
"""Whether a browser may see what is being answered: at once, with a key, or not."""

_FOLDER = Path(__file__).parent


class ShownModel(Struct, frozen=True):
    """A row of the list of models, as texts."""

    name: str
    upstream: str
    context: str
    output: str
    input: str


class Content(Struct, frozen=True, kw_only=True):
    """What depends on the key and on the chosen model."""

    model: str
    """The model of the snippets; empty where none is known."""

    choices: list[str]
    """The models that can be chosen: those whose whole id shows."""

    models: list[ShownModel]
    remark: str
    snippets: list[Snippet]


class Access(Struct, frozen=True, kw_only=True):
    """What the page says about keys and links.

    `key_env` is the variable of the key in the snippets, None without one. `own_keys`: keys are of
    this service, and one is needed to see its models.
    """

    key_env: str | None
    own_keys: bool
    live: Live
    has_metrics: bool
    has_readme: bool


@cache
def asset(name: str) -> bytes:
    """A file of the page."""
    return (_FOLDER / name).read_bytes()


def content(
    models: Sequence[ListedModel],
    total: int,
    remark: str,
    *,
    chosen: str,
    base_url: str,
    key_env: str | None,
) -> Content:
    """The content for the models that may be seen, of which `chosen` is one, or any text."""
    choices = [one.id for one in models if one.id == printable(one.id, MAX_CHOICE)]
    model = chosen if chosen in choices else next(iter(choices), "")
    target = Target(base_url=base_url, model=model or PLACEHOLDER, key_env=key_env)
    words = [remark]
    if total > len(models):
        words.insert(0, f"The first {len(models)} of {total}.")
    elif total:
        words.insert(0, "1 model." if total == 1 else f"{total} models.")
    return Content(
        model=model,
        choices=choices,
        models=[_shown(one) for one in models],
        remark=" ".join(filter(None, words)),
        snippets=snippets(target),
    )


def document(found: Content, sample: Running, now: float, base_url: str, access: Access) -> bytes:
    """The page; `now` is in seconds since 1970."""
    template = Template(asset("page.html").decode())
    parts = {
        "version": VERSION,
        "base_url": base_url,
        "live": access.live,
        "key_hint": _key_hint(access),
        "key_form": _key_form(access),
        "live_state": live_state(sample, access.live),
        "live_table": _live_table(sample, now, access.live),
        "model_form": _model_form(found),
        "snippets": joined(*map(_client, found.snippets, [True] + [False] * len(found.snippets))),
        "models_state": found.remark,
        "models_table": _models_table(found.models),
        "links": _links(access),
    }
    return template.substitute({name: joined(part) for name, part in parts.items()}).encode()


def live_state(sample: Running, live: Live) -> str:
    """What is going on, in a few words."""
    if live == "key":
        return "Enter a key above to see its requests"
    if live == "none":
        return "Shown to browsers on this machine only"
    silence = ""
    if sample.silent:
        silence = f"{sample.silent} worker{'s do' if sample.silent > 1 else ' does'} not say"
    if not sample.total:
        return silence or "Nothing at the moment"
    more = f", the oldest {len(sample.rows)} shown" if sample.total > len(sample.rows) else ""
    count = f"{sample.total} answer{'' if sample.total == 1 else 's'}{more}"
    return f"{count}; {silence}" if silence else count


def _key_hint(access: Access) -> Markup:
    if access.key_env is None:
        return joined("No key is needed: where a client asks for one, any text will do.")
    name = element("code", None, access.key_env)
    if access.own_keys:
        return joined("A key of this service is needed; the set-ups below take it from ", name, ".")
    return joined("The upstream's own key is passed on; the set-ups below take it from ", name, ".")


def _key_form(access: Access) -> Markup | None:
    if not access.own_keys:
        return None
    no_script = "To enter a key here, the page needs JavaScript."
    return joined(
        element(
            "form",
            {"id": "key-form", "class": "key-form", "hidden": True, "autocomplete": "off"},
            element("label", {"for": "key"}, "Key"),
            element(
                "input",
                # without a name it is never part of an address
                {"id": "key", "type": "password", "required": True, "autocomplete": "off"},
            ),
            element("button", {"type": "submit"}, "Show models and requests"),
            element("span", {"id": "key-problem", "class": "problem", "role": "alert"}),
            element(
                "span",
                {"id": "key-note", "class": "quiet", "role": "status"},
                "The key stays in this page, and is forgotten with it. "
                "Only the requests of this key's client are shown.",
            ),
        ),
        element("p", {"id": "no-script", "class": "quiet"}, no_script),
    )


def _live_table(sample: Running, now: float, live: Live) -> Markup:
    table = element(
        "table",
        {"id": "live-table", "hidden": not sample.rows},
        _head(["Model", "Doing"], ["For", "First output", "Speed", "Written"]),
        element("tbody", {"id": "live-rows"}, *[_row(row, now) for row in sample.rows]),
    )
    if live != "open":
        return table
    again = element("a", {"href": "/"}, "Refresh")
    return joined(table, element("p", {"id": "live-refresh", "class": "quiet"}, again))


def _head(first: Sequence[str], numbers: Sequence[str], last: Sequence[str] = ()) -> Markup:
    """The titles of a table: those over numbers stand on the right."""
    plain = [[element("th", {"scope": "col"}, title) for title in part] for part in (first, last)]
    right = [element("th", {"scope": "col", "class": "number"}, title) for title in numbers]
    return element("thead", None, element("tr", None, *plain[0], *right, *plain[1]))


def _row(row: Row, now: float) -> Markup:
    age = max(0.0, now - row.at)
    spent = 0.0 if row.first_s is None else age - row.first_s
    notes = [row.client, row.upstream]
    notes += [f"{row.retries} {'retry' if row.retries == 1 else 'retries'}"] * bool(row.retries)
    notes += [f"{row.notices} notice{'' if row.notices == 1 else 's'}"] * bool(row.notices)
    speed = f"~{row.tokens / spent:.0f} tok/s" if row.tokens and spent >= 1 else ""
    return element(
        "tr",
        {"data-id": row.id},
        element(
            "td",
            None,
            element("code", None, row.model or "(no model)"),
            element("span", {"class": "quiet"}, " · ".join(filter(None, notes))),
        ),
        element(
            "td",
            None,
            element("span", {"class": f"phase {row.phase}"}, row.phase),
            " ",
            element("span", {"class": "detail"}, row.detail),
        ),
        _number("age", _seconds(age), "for"),
        _number("first", "" if row.first_s is None else _seconds(row.first_s), "first"),
        _number("speed", speed),
        _number("tokens", f"~{row.tokens} tokens" if row.tokens else ""),
    )


def _number(kind: str, text: str, label: str = "") -> Markup:
    label_of = {"data-label": label} if label else {}
    return element("td", {"class": f"number {kind}".strip(), **label_of}, text)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def _model_form(found: Content) -> Markup:
    """Chooses the model of the snippets; without a script by loading the page anew."""
    options = [
        element("option", {"value": one, "selected": one == found.model}, one)
        for one in found.choices
    ]
    return element(
        "form",
        {"id": "model-form", "method": "get", "action": "/", "hidden": not found.choices},
        element("label", {"for": "model"}, "Model"),
        element("select", {"id": "model", "name": "model"}, *options),
        element("button", {"id": "model-button", "type": "submit"}, "Show"),
    )


def _client(snippet: Snippet, chosen: bool) -> Markup:
    text, choice = f"text-{snippet.id}", f"client-{snippet.id}"
    label = element("span", {"class": "hidden-text"}, f" the set-up of {snippet.client}")
    return element(
        "div",
        {"class": "client"},
        element(
            "input",
            {
                "type": "radio",
                "name": "client",
                "id": choice,
                "value": snippet.id,
                "checked": chosen,
                "autocomplete": "off",
            },
        ),
        element("label", {"for": choice}, snippet.client),
        element(
            "div",
            {"class": "panel"},
            element(
                "div",
                {"class": "where"},
                element("span", {"class": "quiet"}, snippet.where),
                element(
                    "button",
                    {"type": "button", "class": "copy", "data-copies": text, "hidden": True},
                    "Copy",
                    label,
                ),
            ),
            element(
                "pre",
                {"tabindex": "0", "aria-label": f"Set-up of {snippet.client}"},
                element("code", {"id": text}, snippet.text),
            ),
        ),
    )


def _shown(model: ListedModel) -> ShownModel:
    vision = {None: "", True: "text, images", False: "text"}[model.vision]
    return ShownModel(
        name=printable(model.id, MAX_NAME),
        upstream=printable(model.upstream, MAX_NAME),
        context=_count(model.context_window),
        output=_count(model.max_output_tokens),
        input=vision,
    )


def _count(tokens: int | None) -> str:
    return "" if tokens is None else f"{tokens:,}".replace(",", "\u202f")


def _models_table(models: Sequence[ShownModel]) -> Markup:
    rows = [
        element(
            "tr",
            None,
            element("td", None, element("code", None, one.name)),
            element("td", None, one.upstream),
            _number("", one.context, "context"),
            _number("", one.output, "output"),
            element("td", None, one.input),
        )
        for one in models
    ]
    table = element(
        "table",
        {"id": "models-table", "hidden": not models},
        _head(["Id", "Upstream"], ["Context, tokens", "Output, tokens"], ["Input"]),
        element("tbody", {"id": "models-rows"}, *rows),
    )
    scrolls = {"class": "models", "tabindex": "0", "role": "group", "aria-label": "Models"}
    return element("div", scrolls, table)


def _links(access: Access) -> Markup:
    links = [("/openapi.json", "API description (OpenAPI)")]
    links += [("/metrics", "Metrics")] * access.has_metrics
    links += [("/readyz", "Readiness")]
    links += [("/page/readme", "Documentation")] * access.has_readme
    return joined(
        *(element("li", None, element("a", {"href": href}, text)) for href, text in links)
    )
