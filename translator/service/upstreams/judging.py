"""What a client is told of an upstream's error, and the operator alone is.

error ──► without secrets ──► the client's own affair, or the operator's: a 502, and a log line
"""

from __future__ import annotations

import logging

from translator.reader.upstream_errors import for_client, shorten
from translator.service.base.ids import log_extra
from translator.service.base.redaction import Redaction
from translator.service.config.settings import Upstream
from translator.wire.errors import AccountEmpty, CredentialRefused, UpstreamError

log = logging.getLogger(__name__)


def judged(
    error: UpstreamError,
    upstream: Upstream,
    redaction: Redaction,
    status: int = 0,
    *,
    request_id: str | None = None,
) -> UpstreamError:
    """An upstream's error as the client should see it; logs what only the operator can mend.

    `status` is that of the upstream's answer, if it says more than the error's. `request_id` is
    needed where this is called by a connection, not by the task of the request.
    """
    extra = None if request_id is None else log_extra(request_id)
    cleaned = without_secrets(error, redaction)
    found = for_client(cleaned, own_credential=upstream.has_credential)
    status = status or error.status_hint
    if isinstance(found, CredentialRefused):
        text = "upstream %s refused the gateway's own credential (%d)"
        log.error(text, upstream.name, status, extra=extra)
    elif isinstance(found, AccountEmpty):
        text = "upstream %s: the gateway's account has no credit left (%d)"
        log.error(text, upstream.name, status, extra=extra)
    return found


def without_secrets(error: UpstreamError, redaction: Redaction) -> UpstreamError:
    """The same error, without secrets in anything that is sent or logged of it."""
    text = redaction.text(error.text)
    if text != error.text:  # the message is its beginning, and may end in half a secret
        error.text, error.message = text, shorten(text)
    error.message = redaction.message(error.message)
    error.code = None if error.code is None else redaction.text(error.code)
    error.type = redaction.text(error.type)
    error.param = None if error.param is None else redaction.text(error.param)
    return error
