"""A fixture made from a capture: the recorded inputs, with the outcome of running them again.

The recorded outcome may depend on the time, on ids, or on a bug that is fixed by now; that of a
fixture does not. A body that broke off is kept as far as it was received.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from translator.common.toml import toml_lines
from translator.request.compaction import after_compaction
from translator.wire.json_values import as_object

from .fixture_text import text_of
from .folder import (
    CHAT,
    ERROR,
    EVENTS,
    REQUEST,
    RESPONSE,
    UPSTREAM_HTTP,
    UPSTREAM_JSON,
    UPSTREAM_SSE,
    Capture,
    CaptureError,
    facts_of,
    http_text,
)
from .notation import Summary, summary_of
from .replay import inputs_of
from .run import Inputs, Outcome, counting_ids, run


def fixture_of(capture: Capture, title: str) -> dict[str, bytes]:
    """The files of the fixture, by name. Raises CaptureError where it cannot be made."""
    inputs = _self_contained(inputs_of(capture))
    try:
        request = as_object(json.loads(inputs.request))
    except ValueError:
        raise CaptureError("the client's request is not JSON") from None
    if request is None:
        raise CaptureError("the client's request is not a JSON object")
    outcome = run(inputs, counting_ids("024d"))
    if inputs.body is None and inputs.refusal is None and not outcome.is_refusal:
        raise CaptureError("the upstream sent nothing")
    files: dict[str, Any] = {REQUEST: request, CHAT: outcome.chat}
    if request.get("stream"):
        files[EVENTS] = outcome.events
    else:
        files[RESPONSE] = outcome.response
    files[ERROR] = outcome.error
    texts = {name: text_of(name, value) for name, value in files.items() if value is not None}
    for name in (UPSTREAM_SSE, UPSTREAM_JSON):
        if (body := capture.content(name)) is not None:
            texts[name] = body
    if inputs.refusal is not None:
        texts[UPSTREAM_HTTP] = http_text(
            inputs.refusal.status, inputs.refusal.headers, inputs.refusal.body
        )
    texts["source.toml"] = _source(capture, title, outcome)
    return texts


def default_name(capture: Capture) -> str:
    """`<dialect>/<case>`, the case from the time and the model."""
    manifest = capture.manifest
    dialect = manifest.dialect or "base"
    case = re.sub(r"[^a-z0-9]+", "_", f"{manifest.at[:19]} {manifest.model}".lower()).strip("_")
    return f"{dialect}/trace_{case[:60]}"


def _self_contained(inputs: Inputs) -> Inputs:
    """The same inputs with the previous response's items in the request, and a whole answer."""
    inputs = msgspec.structs.replace(inputs, ends="whole", own_key=False)
    if inputs.earlier is None:
        return inputs
    fields = msgspec.json.decode(inputs.request, type=dict[str, Any])
    source: str | list[Any] = fields.get("input") or []
    items = [{"role": "user", "content": source}] if isinstance(source, str) else source
    fields.pop("previous_response_id", None)
    earlier = after_compaction(inputs.earlier)
    request = msgspec.json.encode(fields | {"input": [*earlier, *items]})
    return msgspec.structs.replace(inputs, request=request, earlier=None)


def _source(capture: Capture, title: str, outcome: Outcome) -> bytes:
    manifest = capture.manifest
    upstream = f", upstream {manifest.upstream.name}" if manifest.upstream is not None else ""
    fact = (
        f"Captured by `translator serve --trace` (version {manifest.translator}) "
        f"on {manifest.at[:10]}: model {manifest.model or 'none'}{upstream}, "
        f"outcome {manifest.outcome or 'none'}."
    )
    head: dict[str, Any] = {
        "plan": [],
        "title": title,
        "fact": fact,
        "dialect": capture.dialect.name,
    }
    lines = toml_lines(head)
    expected = toml_lines(_expected(outcome))
    lines += ["", *expected] if expected else []
    tables = {
        "options": manifest.options,
        "target": manifest.target,
        "dialect_fields": facts_of(capture.dialect, manifest.target.get("model") or manifest.model),
    }
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]", *toml_lines(table)]
    return "".join(f"{line}\n" for line in lines).encode()


def _expected(outcome: Outcome) -> dict[str, Any]:
    """The fields of `source.toml` that state the expected outcome."""
    final = outcome.events[-1]["response"] if outcome.events else outcome.response
    found = Summary() if final is None else summary_of(final, outcome.events or [])
    fields = msgspec.structs.asdict(found)
    message = fields.pop("message")
    fields["sealed"] = [msgspec.json.encode(blob).decode() for blob in found.sealed]
    fields["notices"] = [f"{notice.path} {notice.code}" for notice in outcome.notices]
    if outcome.error is not None:
        error = outcome.error["body"]["error"]
        fields |= {"http": outcome.error["status"], "headers": outcome.error["headers"]}
        fields |= {"code": error["code"], "param": error["param"]}
        message = error["message"]
    fields["says"] = message
    return {name: value for name, value in fields.items() if value}
