"""What went wrong, as one of a few words: for metrics and spans, whose labels must be bounded.

An upstream can put anything into an error's code. So its code counts only when it is one of those
that we give; any other refusal is known by whose fault it was.
"""

from __future__ import annotations

from translator.wire.errors import AccountEmpty, CredentialRefused, TranslatorError, UpstreamError

from . import transport_errors

KNOWN_CODES = frozenset(
    {
        "content_filter",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
        "rate_limit_exceeded",
        "server_is_overloaded",
    }
)
"""Codes of upstream errors on which clients act, and so operators, too."""


def kind_of(error: TranslatorError) -> str:
    """One word for an error: one of ours, or one of `UPSTREAM_KINDS`."""
    if not isinstance(error, UpstreamError):
        return error.code or error.type
    if isinstance(error.__cause__, transport_errors.TRANSPORT_ERRORS):
        return transport_errors.kind_of(error.__cause__)
    if isinstance(error, CredentialRefused):
        return "credential_refused"
    if isinstance(error, AccountEmpty):
        return "insufficient_quota"
    if error.code in KNOWN_CODES:
        return str(error.code)
    if error.status_hint == 504:
        return "timeout"
    return "refused" if error.status_hint < 500 else "failed"


UPSTREAM_KINDS = frozenset(
    {*KNOWN_CODES, *transport_errors.KINDS} | {"credential_refused", "timeout", "refused", "failed"}
)
"""All words for what goes wrong with an upstream."""
