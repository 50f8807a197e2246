"""A web to search, on this machine, and a translator that searches it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .conftest import Stage, serving
from .upstream import ScriptedUpstream

MODEL = "kimi-k2.6"
SETTINGS = """\
[upstreams.scripted]
base_url = {upstream}
dialect = "fireworks"

[models."kimi-k2.6"]
upstream = "scripted"
upstream_model = "accounts/fireworks/models/kimi-k2p6"
context_window = 262144
"""
SEARCH = """
[tools]
allow_private = ["127.0.0.0/8"]

[tools.search]
backend = "searxng"
url = {web}
"""
PAGE = """<title>Release notes</title><h1>Release notes</h1>
<p>See <a href="/changes">all changes</a>.<p>Version 7 came out in May."""
CHANGES = "<title>Changes</title><p>Version 7.1 came out in June."


class Web:
    """A search backend and pages, on a free port of this machine."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path != "/robots.txt":
                    web.asked.append(path)
                found = {"url": f"{web.url}/notes", "title": "Notes", "content": "Of releases."}
                pages = {
                    "/search": ("application/json", json.dumps({"results": [found]})),
                    "/notes": ("text/html", PAGE),
                    "/changes": ("text/html", CHANGES),
                }
                kind, text = pages.get(path, ("text/plain", ""))
                self.send_response(200 if path in pages else 404)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments: object) -> None:
                """Tests print what they need themselves."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Web]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@contextmanager
def searching_stage(folder: Path) -> Iterator[tuple[Stage, Web]]:
    """A stage whose translator searches a web."""
    file = folder / "settings.toml"
    with Web().running() as web, ScriptedUpstream() as upstream:
        settings = SETTINGS + SEARCH.replace("{web}", json.dumps(web.url))
        file.write_text(settings.replace("{upstream}", json.dumps(upstream.base_url)))
        with serving(None, "--config", str(file)) as base_url:
            yield Stage(upstream, base_url), web
