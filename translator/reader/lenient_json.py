"""JSON decoder for payloads that are not quite JSON, or not quite Unicode."""

from __future__ import annotations

import json

import msgspec

from translator.wire.json_values import NOT_JSON


def decode_leniently(payload: bytes) -> object:
    """Any JSON, also with lone surrogates or broken UTF-8 in it; ValueError when it is none."""
    try:
        return msgspec.json.decode(payload)
    except NOT_JSON:
        # The standard library keeps lone surrogates, which msgspec refuses.
        try:
            return json.loads(payload.decode("utf-8", "replace"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
