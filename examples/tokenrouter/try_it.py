"""The whole gateway without a provider: an upstream that plays a model, the set-up, the service.

    python examples/tokenrouter/try_it.py [--port 8080] [--folder FOLDER]

It ends with Ctrl-C. The books are in FOLDER, by default one that is removed at the end. The model
repeats what it is told; some words make it fail as providers do:

    please be too long    please be busy    please break    please vanish    please be late
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

FAILURES = {
    "please be too long": (
        400,
        "This model's maximum context length is 262144 tokens. However, your request has 300000"
        " input tokens. Please reduce the length of the input messages.",
    ),
    "please be busy": (503, "The model is overloaded."),
    "please break": (500, "The model broke."),
    "please be late": (504, "The model did not answer in time."),
}


class Model(BaseHTTPRequestHandler):
    """The upstream: Chat Completions, streamed or whole."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, json.dumps({"object": "list", "data": []}).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told = str(asked["messages"][-1]["content"])
        if "please vanish" in told:
            self.close_connection = True
            return
        for words, (status, message) in FAILURES.items():
            if words in told:
                self._send(status, json.dumps({"error": {"message": message}}).encode())
                return
        text = f"Hello from {asked['model'].rpartition('/')[2]}. You said: {told[:200]}"
        if asked.get("stream"):
            frames = [
                chunk(asked, [{"index": 0, "delta": {"role": "assistant", "content": text}}]),
                chunk(asked, [{"index": 0, "delta": {}, "finish_reason": "stop"}]),
                chunk(asked, [], usage=usage(told, text)),
                "[DONE]",
            ]
            body = "".join(f"data: {frame}\n\n" for frame in frames)
            self._send(200, body.encode(), "text/event-stream")
            return
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {"id": "chat-1", "object": "chat.completion", "created": 1, "choices": choices}
        whole = answer | {"model": asked["model"], "usage": usage(told, text)}
        self._send(200, json.dumps(whole).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """The service has a log of its own."""


def chunk(asked: dict[str, Any], choices: list[Any], **more: object) -> str:
    made = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "choices": choices}
    return json.dumps(made | {"model": asked["model"]} | more)


def usage(told: str, text: str) -> dict[str, int]:
    """A token for each four characters."""
    prompt, completion = 10 + len(told) // 4, len(text) // 4
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Tries the gateway with a model that is played.")
    parser.add_argument("--port", type=int, default=8080, help="0 for any that is free")
    parser.add_argument("--folder", type=Path, help="where the books are")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # it ends as by Ctrl-C
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=upstream.serve_forever, args=(0.1,))
    thread.start()
    try:
        if options.folder is not None:
            return gateway(options.folder, upstream.server_port, options.port)
        with tempfile.TemporaryDirectory() as folder:
            return gateway(Path(folder), upstream.server_port, options.port)
    finally:
        upstream.shutdown()
        thread.join()
        upstream.server_close()


def gateway(folder: Path, upstream: int, port: int) -> int:
    """Set the gateway up in a folder, and serve it until Ctrl-C."""
    settings = (HERE / "settings.toml").read_text("utf-8")
    settings = re.sub(r'base_url = ".*"', f'base_url = "http://127.0.0.1:{upstream}/v1"', settings)
    settings = re.sub(r"port = \d+", f"port = {port}", settings)
    config = folder / "settings.toml"
    config.write_text(settings, "utf-8")
    password = os.environ.get("GATEWAY_PASSWORD") or secrets.token_urlsafe(12)
    environ = os.environ | {"GATEWAY_PASSWORD": password, "FIREWORKS_API_KEY": "none"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    subprocess.run(["sh", str(HERE / "set-up.sh"), str(config)], env=environ, check=True)
    print(f"Sign in at /account as anna or olga; both passwords: {password}", flush=True)
    service = subprocess.Popen(["translator", "serve", "--config", str(config)], env=environ)
    try:
        return service.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    sys.exit(main())
