"""Engines that name themselves, or nothing: the dialect is right, and the same each time."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from translator.__main__ import main
from translator.probe.report import TAKEN, as_settings
from translator.probe.verdict import named, ranked

from . import scripted, upstreams
from .probing import HOST, facts_about, run_probe, settings_of
from .scripted import JSON


def test_a_server_that_names_itself_is_believed() -> None:
    """Although more findings contradict it than another dialect."""

    class Named(upstreams.Fireworks):
        owner = "vllm"

    report = run_probe(Named())
    distances = {fit.name: fit.distance for fit in report.fits}
    assert distances["fireworks"] == 0 < distances["vllm"]
    assert (report.best.name, report.agent_turn) == ("vllm", TAKEN)
    text = as_settings(report, name="up", api_key_env=None)
    assert "#   chosen because the server names itself\n" in text
    assert "#   recognised by: owner:vllm\n" in text
    assert "equally close" not in text


def test_llama_cpp_is_llama_cpp() -> None:
    report = run_probe(upstreams.LlamaCppServer())
    assert (report.best.name, report.agent_turn) == ("llama_cpp", TAKEN)
    assert report.marks == ["owner:llamacpp", "server:llama.cpp"]


def test_vllm_is_vllm() -> None:
    report = run_probe(upstreams.Vllm032())
    assert (report.best.name, report.agent_turn) == ("vllm", TAKEN)
    assert report.marks == ["fingerprint:vllm-0.32.0-f967b354", "owner:vllm"]


@pytest.mark.parametrize(
    "wording",
    [
        "Unexpected fields in the request: {names}",
        "Unexpected keys in the request: {names}",
        "Unrecognized request parameters {names}",
        "1 validation error: extra fields {names} not allowed",
    ],
)
def test_a_server_without_a_name_gets_the_base_with_its_facts(wording: str) -> None:
    """Several known dialects are closer, but none of them is it."""

    class Strict(upstreams.TransformersServe):
        pass

    Strict.wording = wording
    behind = Strict()
    report = run_probe(behind)
    assert report.best.name == "base"
    assert report.agent_turn == TAKEN
    assert {"think_tags", "recover_calls", "efforts"} <= report.best.overrides.keys()
    assert "extra" not in report.best.overrides
    assert behind.bodies[-1].keys() <= behind.knows
    assert "extra: no reasoning_split" in facts_about(report, "extra")
    text = as_settings(report, name="up", api_key_env=None)
    assert "\nthink_tags = {}\n" in text
    assert "\nrecover_calls = true\n" in text
    assert settings_of(report).upstreams["up"].facts["recover_calls"] is True


def test_a_known_host_is_believed() -> None:
    """More than findings, and more than the name of a server behind it."""
    report = run_probe(upstreams.LlamaCppServer(), host="https://api.groq.com")
    assert report.best.name == "groq"
    assert report.agent_turn == TAKEN
    text = as_settings(report, name="up", api_key_env=None)
    assert "#   chosen because it is known for this host\n" in text


def test_the_owner_of_the_probed_model_counts() -> None:
    """Of a list of many; where the model is not in it, an owner that is the same for all."""

    class Many(upstreams.Vllm032):
        rows: tuple[tuple[str, str], ...] = ()

        def list_models(self) -> httpx.Response:
            data = [{"id": name, "owned_by": owner} for name, owner in self.rows]
            return scripted.answer(200, {"data": data})

        def chunk(self, delta: JSON, finish: str | None = None) -> JSON:
            return super().chunk(delta, finish) | {"system_fingerprint": None}

    def marks(*rows: tuple[str, str]) -> list[str]:
        behind = Many()
        behind.rows = rows
        return [mark for mark in run_probe(behind).marks if mark.startswith("owner:")]

    assert marks(("other", "llamacpp"), ("tiny-qwen3", "vllm")) == ["owner:vllm"]
    assert marks(("other", "vllm"), ("another", "vllm")) == ["owner:vllm"]
    assert marks(("other", "llamacpp"), ("another", "vllm")) == []


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("owner:vllm", "vllm"),
        ("owner:sglang", "sglang"),
        ("owner:llamacpp", "llama_cpp"),
        ("server:llama.cpp", "llama_cpp"),
        ("server:sglang/0.6", "sglang"),
        ("owner:library", "ollama"),
        ("fingerprint:fp_ollama", "ollama"),
        ("owner:organization_owner", "lm_studio"),
        ("header:x-groq-region", "groq"),
        ("header:fireworks-server-processing-time", "fireworks"),
        # makers of models, networks, imitators, words by chance
        ("owner:mistral", None),
        ("owner:deepseek", None),
        ("owner:openai", None),
        ("owner:base", None),
        ("header:x-azure-ref", None),
        ("header:openai-version", None),
        ("header:together", None),
        ("server:uvicorn", None),
        ("fingerprint:b11549-0a1b2c3", None),
    ],
)
def test_a_name_is_that_of_a_server(mark: str, name: str | None) -> None:
    fits = ranked([], model="m", base_url=HOST, marks=[mark])
    assert [fit.name for fit in fits if named(fit.name, [mark])] == ([name] if name else [])
    assert fits[0].name == (name or "base")


# --- connections that break -----------------------------------------------------------------------


class Network:
    """What happened on the connections of a server."""

    connections = 0
    dropped = 0
    """Requests that got no answer, as they came on a connection behind a stream."""
    breaks: frozenset[int] = frozenset()
    """The questions, by number, on which the connection breaks although it is new."""
    questions = 0


@contextmanager
def closing_after_streams(behind: scripted.Upstream, network: Network) -> Generator[str]:
    """An upstream that promises to keep connections, and ends them after each stream."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle(self) -> None:
            network.connections += 1
            self.streamed = False
            with suppress(ConnectionError):
                super().handle()

        def handle_one(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", "0")))
            network.questions += self.command == "POST"
            if self.streamed or (self.command == "POST" and network.questions in network.breaks):
                network.dropped += 1
                self.close_connection = True
                return
            asked = httpx.Request(self.command, f"http://up{self.path}", content=content)
            answer = behind(asked)
            body = b"".join(answer.stream)  # type: ignore[arg-type]
            self.send_response_only(answer.status_code)
            for name in ("content-type", "server"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("keep-alive", "timeout=5, max=100")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            self.streamed = "event-stream" in answer.headers["content-type"]

        do_GET = do_POST = handle_one  # noqa: N815 - the names that the base class looks for

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{behind.path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_closed_connections_lose_no_question(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten times, the same is printed: each request has a connection of its own."""
    printed: set[str] = set()
    network = Network()
    with closing_after_streams(upstreams.LlamaCppServer(), network) as url:
        for _ in range(10):
            assert main(["probe", "--upstream", url, "--model", "tiny-qwen3", "--quiet"]) == 0
            printed.add(capsys.readouterr().out)
    [text] = printed
    assert '\ndialect = "llama_cpp"\n' in text
    assert network.dropped == 0
    assert network.questions + 10 == network.connections == 290


def test_a_request_whose_connection_breaks_is_sent_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On another one. What is printed differs in the number of requests."""
    printed: list[str] = []
    calm, rough = Network(), Network()
    rough.breaks = frozenset(range(1, 57, 2))  # the first attempt of each
    for network in (calm, rough):
        with closing_after_streams(upstreams.LlamaCppServer(), network) as url:
            words = ["probe", "--upstream", url, "--model", "tiny-qwen3", "--quiet"]
            assert main(words) == 0
        text = capsys.readouterr().out
        printed.append(text.replace(url, "").replace(f": {network.questions + 1} requests", ""))
    assert printed[0] == printed[1]
    assert rough.dropped == calm.questions == 28
    assert rough.questions == 2 * 28
    assert rough.connections == rough.questions + 1
