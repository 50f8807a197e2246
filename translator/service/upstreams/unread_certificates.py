"""An import of aiohttp that reads no certificates of the system: a third of its time.

aiohttp makes two TLS contexts when it is imported, and for each OpenSSL reads the certificates of
all authorities that the system trusts. The service uses neither: `transport` makes its own. So the
environment names an empty file for the time of the import. A context without authorities trusts no
server.

Only for a process that is the service's own: in another program, aiohttp's contexts may be used.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def unread_certificates() -> Generator[None]:
    """Have OpenSSL find no certificates by default; no other thread may make a TLS context."""
    name = ssl.get_default_verify_paths().openssl_cafile_env  # SSL_CERT_FILE
    before = os.environ.get(name)
    os.environ[name] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
