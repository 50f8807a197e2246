"""A kept exchange as a fixture: what goes in as it came, what comes out as it is now.

What came out then may have depended on time, on the ids of the day, or on a fault that has been
mended since; a fixture depends on none. Of a body that broke off, it has what came.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from translator.dialects.table import fact_lines
from translator.request.compaction import after_compaction

from .fixture_text import text_of
from .folder import Folder, NotKept, facts_of, http_text
from .notation import Summary, summary_of
from .replay import given_by
from .run import Given, Outcome, counted, run


def fixture_of(folder: Folder, title: str) -> dict[str, bytes]:
    """The files of the fixture, by name; raises NotKept where it cannot be made."""
    given = _alone(given_by(folder))
    try:
        request = json.loads(given.request)
    except ValueError:
        raise NotKept("the client's request is not JSON") from None
    outcome = run(given, counted("024d"))
    if given.body is None and given.refusal is None and not outcome.is_refusal:
        raise NotKept("nothing came from the upstream")
    files: dict[str, Any] = {"request.json": request, "chat.json": outcome.chat}
    if request.get("stream"):
        files["events.jsonl"] = outcome.events
    else:
        files["response.json"] = outcome.response
    files["error.json"] = outcome.error
    texts = {name: text_of(name, value) for name, value in files.items() if value is not None}
    for name in ("upstream.sse", "upstream.json"):
        if (body := folder.content(name)) is not None:
            texts[name] = body
    if given.refusal is not None:
        texts["upstream.http"] = http_text(
            given.refusal.status, given.refusal.headers, given.refusal.body
        )
    texts["source.toml"] = _source(folder, title, outcome, request)
    return texts


def default_name(folder: Folder) -> str:
    """`<dialect>/<case>`, the case from the time and the model."""
    kept = folder.kept
    dialect = kept.dialect or "base"
    case = re.sub(r"[^a-z0-9]+", "_", f"{kept.at[:19]} {kept.model}".lower()).strip("_")
    return f"{dialect}/trace_{case[:60]}"


def _alone(given: Given) -> Given:
    """The same without anything remembered or waited for: whole in itself."""
    given = msgspec.structs.replace(given, ends="whole", own_key=False)
    if given.earlier is None:
        return given
    fields = msgspec.json.decode(given.request, type=dict[str, Any])
    given_input: str | list[Any] = fields.get("input") or []
    asked = (
        [{"role": "user", "content": given_input}] if isinstance(given_input, str) else given_input
    )
    fields.pop("previous_response_id", None)
    before = after_compaction(given.earlier)
    request = msgspec.json.encode(fields | {"input": [*before, *asked]})
    return msgspec.structs.replace(given, request=request, earlier=None)


def _source(folder: Folder, title: str, outcome: Outcome, request: dict[str, Any]) -> bytes:
    kept = folder.kept
    upstream = f", upstream {kept.upstream.name}" if kept.upstream is not None else ""
    fact = (
        f"Kept by `translator serve --trace` (version {kept.translator}) on {kept.at[:10]}: "
        f"model {kept.model or 'none'}{upstream}, outcome {kept.outcome or 'none'}."
    )
    head: dict[str, Any] = {
        "plan": [],
        "title": title,
        "fact": fact,
        "dialect": folder.dialect.name,
    }
    lines = fact_lines(head)
    expected = fact_lines(_expected(outcome, request))
    lines += ["", *expected] if expected else []
    tables = {
        "options": kept.options,
        "target": kept.target,
        "dialect_fields": facts_of(folder.dialect, kept.target.get("model") or kept.model),
    }
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]", *fact_lines(table)]
    return "".join(f"{line}\n" for line in lines).encode()


def _expected(outcome: Outcome, request: dict[str, Any]) -> dict[str, Any]:
    """The fields of `source.toml` that tell what comes out."""
    final = outcome.events[-1]["response"] if outcome.events else outcome.response
    found = Summary() if final is None else summary_of(final, outcome.events or [])
    fields = msgspec.structs.asdict(found)
    says = fields.pop("message")
    fields["sealed"] = [msgspec.json.encode(blob).decode() for blob in found.sealed]
    fields["notices"] = [f"{notice.path} {notice.code}" for notice in outcome.notices]
    if outcome.error is not None:
        error = outcome.error["body"]["error"]
        fields |= {"http": outcome.error["status"], "headers": outcome.error["headers"]}
        fields |= {"code": error["code"], "param": error["param"]}
        says = error["message"]
    fields["says"] = says
    return {name: value for name, value in fields.items() if value}
