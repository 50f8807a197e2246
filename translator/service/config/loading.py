"""Loading and validation of settings, from a TOML file or from command-line options.

Every section is checked key by key, so that one start reports all mistakes, each with its path:
`models."kimi-k2p6".upstream: there is no upstream "firework"; known: fireworks`. The command line's
single `--upstream URL` is the same table with one entry, checked by the same rules.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from translator import Options
from translator.common.toml import toml_key
from translator.dialects import known_host

from .checks import (
    dialect_problems,
    forward_problems,
    header_problems,
    host_problems,
    key_problems,
    origin_problems,
    proxy_problems,
    url_problems,
)
from .clients import read_clients
from .facts import read_facts, resolve_dialect
from .proxies import Proxies, proxies_of
from .sections import CATCH_ALL, named_sections, read_section, unknown
from .settings import (
    CatchAll,
    Model,
    ModelSection,
    Server,
    Settings,
    SettingsError,
    Upstream,
    UpstreamSection,
)

_SECTIONS = ("server", "upstreams", "models", "clients", "store", "accounts", "tools")


def read_file(path: str | Path, environ: Mapping[str, str]) -> Settings:
    """The settings in a TOML file; raises SettingsError."""
    return read_table(read_toml(path), environ, Path(path).parent)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file, whatever they are; raises SettingsError."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path} is not UTF-8 text"]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path} is not TOML: {error}"]) from None


def read_options(
    *,
    upstream: str,
    dialect: str = "auto",
    api_key_env: str | None = None,
    server: Mapping[str, object] | None = None,
    environ: Mapping[str, str],
) -> Settings:
    """The settings of a command line that names one upstream; raises SettingsError."""
    section: dict[str, object] = {"base_url": upstream, "dialect": dialect}
    if api_key_env is not None:
        section["api_key_env"] = api_key_env
    table = {"server": dict(server or {}), "upstreams": {"upstream": section}}
    try:
        return read_table(table, environ)
    except SettingsError as error:
        raise SettingsError(map(_under_option, error.problems)) from None


def override(settings: Settings, server: Mapping[str, Any]) -> Settings:
    """The settings with fields of `[server]` replaced by those of the command line."""
    given = {name: server[name] for name in Options.__struct_fields__ if name in server}

    def with_options(model: Model) -> Model:
        return msgspec.structs.replace(
            model,
            options=msgspec.structs.replace(model.options, **given),
            elsewhere=tuple(map(with_options, model.elsewhere)),
        )

    models = {name: with_options(model) for name, model in settings.models.items()}
    catch_all = settings.catch_all
    if catch_all is not None:
        options = msgspec.structs.replace(catch_all.options, **given)
        catch_all = msgspec.structs.replace(catch_all, options=options)
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(settings.server, **server),
        models=models,
        catch_all=catch_all,
    )


def translation_options(server: Server, model: ModelSection | None = None) -> Options:
    """The options of a translation: those of the model, else those of `[server]`."""
    own = {name: getattr(model, name, None) for name in Options.__struct_fields__}
    return Options(
        **{name: getattr(server, name) if value is None else value for name, value in own.items()}
    )


def read_table(
    table: Mapping[str, Any], environ: Mapping[str, str], folder: Path | None = None
) -> Settings:
    """The settings in a decoded TOML document; raises SettingsError with every mistake.

    Relative paths of files are those in `folder`, by default the current one.
    """
    problems = [f"{key}: {unknown(key, _SECTIONS)}" for key in table if key not in _SECTIONS]
    server = _read_server(table.get("server", {}), problems)
    proxies = proxies_of(environ)
    upstreams = {
        name: _read_upstream(name, value, environ, proxies, problems)
        for name, value in named_sections(table, "upstreams", problems).items()
    }
    models = named_sections(table, "models", problems)
    sections = {
        model_id: _read_model(model_id, value, models, upstreams, server, problems)
        for model_id, value in models.items()
    }
    problems += _description_problems(sections)
    clients = read_clients(table, problems)
    store = None
    if "store" in table:
        from .store import read_store  # few have one

        store = read_store(table["store"], folder or Path(), environ, problems)
    accounts = None
    if "accounts" in table:
        from .accounts import read_accounts  # few have one

        accounts = read_accounts(
            table["accounts"],
            folder or Path(),
            environ,
            problems,
            has_models="models" in table,
            has_clients="clients" in table,
        )
    tools = None
    if "tools" in table:
        from .tools import read_tools  # few have one

        tools = read_tools(table["tools"], clients, environ, problems)
    if not upstreams:
        problems.append("upstreams: no upstream is given")
    elif not sections and "models" not in table and len(upstreams) > 1:
        problems.append(
            "models: with more than one upstream, each model must say which one it is on"
        )
    elif "models" in table and table["models"] == {}:
        problems.append("models: no model is given; without this section any model is accepted")
    if problems:
        raise SettingsError(problems)
    return Settings(
        server=server,
        upstreams={name: upstream for name, upstream in upstreams.items() if upstream},
        models={name: model for name, model in sections.items() if isinstance(model, Model)},
        catch_all=next((one for one in sections.values() if isinstance(one, CatchAll)), None),
        clients=clients,
        store=store,
        accounts=accounts,
        tools=tools,
    )


# --- one section each --------------------------------------------------------------------------


def _read_server(value: object, problems: list[str]) -> Server:
    server = read_section(Server, value, "server", problems)
    problems += forward_problems(server.forward, "server.forward")
    problems += host_problems(server.allowed_hosts, "server.allowed_hosts")
    problems += origin_problems(server.cors_origins, "server.cors_origins")
    return server


def _read_upstream(
    name: str,
    value: object,
    environ: Mapping[str, str],
    proxies: Proxies,
    problems: list[str],
) -> Upstream | None:
    """One upstream; None when there is a mistake in it."""
    path = f"upstreams.{toml_key(name)}"
    before = len(problems)
    section = read_section(UpstreamSection, value, path, problems, required="base_url")
    urls = (section.base_url,) if isinstance(section.base_url, str) else section.base_url
    if section.base_url:
        problems += [f"{path}.base_url: {text}" for url in urls for text in url_problems(url)]
    elif section.base_url == ():
        problems.append(f"{path}.base_url: is an empty list")
    problems += dialect_problems(section.dialect, f"{path}.dialect")
    facts = read_facts(section.facts, f"{path}.facts", problems)
    problems += header_problems(section.headers, f"{path}.headers")
    api_key = _read_api_key(section.api_key_env, environ, f"{path}.api_key_env", problems)
    if len(problems) > before:
        return None
    dialect = section.dialect
    if dialect == "auto":
        known = list(dict.fromkeys(known_host(urlsplit(url).hostname or "") for url in urls))
        if len(known) > 1:
            problems.append(f"{path}.base_url: speaks several dialects: {', '.join(known)}")
            return None
        [dialect] = known
    if unusable := proxy_problems(urls, proxies, f"{path}.base_url"):
        problems += unusable
        return None
    first, *others = (url.rstrip("/") for url in urls)
    return Upstream(
        name=name,
        base_url=first,
        fallback_urls=tuple(others),
        dialect=dialect,
        facts=facts,
        api_key=api_key,
        headers=section.headers,
    )


def _read_api_key(
    variable: str | None, environ: Mapping[str, str], path: str, problems: list[str]
) -> str | None:
    if variable is None:
        return None
    problems += [f"{path}: {problem}" for problem in key_problems(variable, environ)]
    return environ.get(variable, "").strip()


def _read_model(
    model_id: str,
    value: object,
    models: Mapping[str, object],
    upstreams: Mapping[str, Upstream | None],
    server: Server,
    problems: list[str],
) -> Model | CatchAll | None:
    """One model of the sections `models`; None for a mistake in it or in its upstream."""
    path = f"models.{json.dumps(model_id, ensure_ascii=False)}"
    before = len(problems)
    if CATCH_ALL in model_id and model_id != CATCH_ALL:
        problems.append(
            f'{path}: is no pattern; "*" alone stands for every name that has no section'
        )
    section = read_section(ModelSection, value, path, problems, required="upstream")
    names = (section.upstream,) if isinstance(section.upstream, str) else section.upstream
    problems += _upstream_name_problems(names, upstreams, f"{path}.upstream")
    if model_id == CATCH_ALL and not isinstance(section.upstream, str):
        problems.append(f"{path}.upstream: takes one upstream")
    problems += dialect_problems(section.dialect, f"{path}.dialect")
    facts = read_facts(section.facts, f"{path}.facts", problems)
    problems += forward_problems(section.forward or (), f"{path}.forward")
    if section.upstream_model == "":
        problems.append(f"{path}.upstream_model: must not be empty")
    elif section.upstream_model == CATCH_ALL:
        problems.append(f'{path}.upstream_model: "*" is no model; leave it out to keep the name')
    problems += _fallback_problems(section.fallbacks, model_id, models, f"{path}.fallbacks")
    problems += _compaction_problems(section.compact_with, model_id, models, path)
    problems += _describer_problems(
        section.describe_images_with, model_id, models, f"{path}.describe_images_with"
    )
    found = [one for name in names if (one := upstreams.get(name)) is not None]
    if len(problems) > before or len(found) < len(names):
        return None
    upstream = found[0]
    dialect = upstream.dialect if section.dialect == "auto" else section.dialect
    if model_id == CATCH_ALL:
        return CatchAll(
            upstream=upstream,
            upstream_model=section.upstream_model,
            dialect=dialect,
            facts=facts,
            options=translation_options(server, section),
            context_window=section.context_window,
            max_output_tokens=section.max_output_tokens,
            vision=section.vision,
            compact_with=section.compact_with,
            describe_images_with=section.describe_images_with,
        )
    first, *elsewhere = (
        _model_on(upstream, model_id, section, facts, translation_options(server, section))
        for upstream in found
    )
    return msgspec.structs.replace(first, elsewhere=tuple(elsewhere))


def _model_on(
    upstream: Upstream,
    model_id: str,
    section: ModelSection,
    facts: Mapping[str, Any],
    options: Options,
) -> Model:
    """A model on one of its upstreams."""
    upstream_model = section.upstream_model or model_id
    dialect = upstream.dialect if section.dialect == "auto" else section.dialect
    return Model(
        id=model_id,
        upstream=upstream,
        upstream_model=upstream_model,
        dialect=resolve_dialect(dialect, upstream_model, upstream.facts, facts),
        options=options,
        context_window=section.context_window,
        max_output_tokens=section.max_output_tokens,
        vision=section.vision,
        fallbacks=section.fallbacks,
        fallback_on_overflow=section.fallback_on_overflow,
        fallback_after_s=section.fallback_after_s,
        compact_with=section.compact_with,
        describe_images_with=section.describe_images_with,
    )


def _upstream_name_problems(
    names: tuple[str, ...], upstreams: Mapping[str, Upstream | None], path: str
) -> list[str]:
    """Problems of the names of a model's upstreams; of none, that it is missing is said already."""
    known = ", ".join(upstreams) or "none"
    problems = [
        f'{path}: there is no upstream "{name}"; known: {known}'
        for name in dict.fromkeys(names)
        if name and name not in upstreams
    ]
    if not names:
        problems.append(f"{path}: is an empty list")
    elif len(names) > 1 and "" in names:
        problems.append(f"{path}: has an empty name")
    problems += [f'{path}: names "{name}" twice' for name in _repeated(names)]
    return problems


def _fallback_problems(
    names: tuple[str, ...], model_id: str, models: Mapping[str, object], path: str
) -> list[str]:
    """Problems of the names of a model's fallbacks; `models` is the table of all."""
    if model_id == CATCH_ALL:
        return [f"{path}: only models with a section of their own have any"] if names else []
    problems: list[str] = []
    listed = [one for one in models if one not in (CATCH_ALL, model_id)]
    for name in dict.fromkeys(names):
        if name == model_id:
            problems.append(f"{path}: names the model itself")
        elif name not in listed:
            problems.append(f"{path}: {json.dumps(name)}: {unknown(name, listed, 'model')}")
    problems += [f'{path}: names "{name}" twice' for name in _repeated(names)]
    return problems


def _describer_problems(
    name: str | None, model_id: str, models: Mapping[str, object], path: str
) -> list[str]:
    """Problems of the name of the model that is to describe images for `model_id`."""
    if name == model_id:
        return [f"{path}: is the model itself; name one that takes images"]
    listed = [one for one in models if one not in (CATCH_ALL, model_id)]
    if name is None or name in listed:
        return []
    return [f"{path}: {json.dumps(name)}: {unknown(name, listed, 'model')}"]


def _description_problems(sections: Mapping[str, Model | CatchAll | None]) -> list[str]:
    """Problems of models with others that are to describe images: who takes any."""
    problems: list[str] = []
    for model_id, model in sections.items():
        if model is None or (name := model.describe_images_with) is None:
            continue
        path = f"models.{json.dumps(model_id, ensure_ascii=False)}.describe_images_with"
        other = sections.get(name)
        if isinstance(other, Model) and not _takes_images(other):
            problems.append(f"{path}: the model {json.dumps(name)} takes no images itself")
        if isinstance(model, Model) and all(map(_takes_images, (model, *model.elsewhere))):
            problems.append(
                f"{path}: the model takes images itself; set vision = false, or leave it out"
            )
        elif isinstance(model, CatchAll) and model.vision:
            problems.append(f"{path}: needs vision = false beside it")
    return problems


def _takes_images(model: Model) -> bool:
    return model.vision and model.dialect.images


def _repeated(names: tuple[str, ...]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _compaction_problems(
    other: str | None, model_id: str, models: Mapping[str, object], path: str
) -> list[str]:
    """Problems of the model that is to compact in place of `model_id`."""
    if other is None:
        return []
    if other == model_id:
        return [f"{path}.compact_with: is the model itself, which is the default; leave it out"]
    if other in models and other != CATCH_ALL:
        return []
    known = ", ".join(one for one in models if one not in (CATCH_ALL, model_id)) or "none"
    return [
        f"{path}.compact_with: there is no section of a model {json.dumps(other)}; known: {known}"
    ]


def _under_option(problem: str) -> str:
    """A problem with the name of its command-line option in place of its path."""
    path, _, text = problem.partition(": ")
    option = path.rpartition(".")[2].replace("_", "-")
    return f"--{'upstream' if option == 'base-url' else option}: {text}"
