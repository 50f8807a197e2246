"""The model of a translation on the command line: its dialect, target and options.

    model = [ --model NAME ], ( --config FILE | [ --dialect NAME ] ) ;

With a settings file, a request takes the route that the service would give it: aliases, facts,
limits and options of the model. No key is needed, and none is read.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

from msgspec.structs import replace

import translator

from .common import Parser, UsageError, add_dialect
from .environment import note
from .settings import AnyVariable, settings_errors


class Routed(NamedTuple):
    """A request, and how the service would translate it."""

    request: translator.ParsedRequest
    dialect: str | translator.Dialect
    target: translator.Target
    options: translator.Options


def add_route(parser: Parser) -> None:
    """Add the options that select a model."""
    add_dialect(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings file in TOML, which has the model's upstream, dialect, facts and limits "
        "(default: none)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the model that is asked for, in place of the request's own (default: the request's)",
    )


def routed(options: argparse.Namespace, body: bytes) -> Routed:
    """A request on its route; raises InvalidRequest for it, and UsageError for the options."""
    request = translator.parse_request(body)
    if options.model is not None:
        request = replace(request, request=replace(request.request, model=options.model))
    if options.config is None:
        return Routed(request, options.dialect or "base", translator.Target(), translator.Options())
    if options.dialect is not None:
        raise UsageError("--dialect cannot be used with --config: set it in the file")
    from translator.service.config.loading import read_file
    from translator.service.models.table import ModelTable, in_order

    with settings_errors():
        settings = read_file(options.config, AnyVariable())
    route = ModelTable(settings, 0).route(request.request.model)
    model = request.request.model or ""
    note(
        f"model {model} goes to upstream {route.upstream.name} as {route.upstream_model or model}"
        f" (dialect {route.dialect.name})"
    )
    if route.others:
        note(f"where it does not answer: {in_order(route)}")
    target = translator.Target(
        model=route.upstream_model,
        max_output_tokens=route.max_output_tokens,
        vision=route.vision,
        context_window=route.context_window,
        origin=route.origin,
    )
    return Routed(request, route.dialect, target, route.options)
