"""The way to the upstream: TLS, proxies of the environment, connections, and what breaks."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import trustme

from translator.service.base.sinks import ChunkSink
from translator.service.config.proxies import Proxies
from translator.service.http.app import create_app
from translator.service.upstreams import transport
from translator.service.upstreams.body import ConnectionBody
from translator.service.upstreams.connection import MAX_HEAD_BYTES
from translator.service.upstreams.transport import Timeouts, Transport, decoded, needs_tls

from .responses_api import ASK, PATH, events
from .wire import Call, ScriptedUpstream, bounded, client_of, make_settings, say_hello

pytestmark = pytest.mark.anyio


async def test_connections_are_kept_for_the_next_request(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        for _ in range(3):
            answer = await client.post("/v1/responses", json=ASK)
            assert events(answer.content)[-1]["type"] == "response.completed"
    assert (len(upstream.calls), upstream.connections) == (3, 1)


async def test_there_are_as_many_connections_as_requests(upstream: ScriptedUpstream) -> None:
    """Libraries stop at a hundred: the next stream would wait for one of them to end."""
    here, all_here = 0, asyncio.Event()

    async def script(call: Call) -> None:
        nonlocal here
        here += 1
        if here == 150:
            all_here.set()
        await bounded(all_here.wait())
        await say_hello(call)

    upstream.script = script
    async with upstream.client() as client:
        asked = [client.post("/v1/responses", json=ASK) for _ in range(150)]
        answers = await bounded(asyncio.gather(*asked))
    assert {events(answer.content)[-1]["type"] for answer in answers} == {"response.completed"}


async def test_cookies_of_one_client_are_not_sent_for_another(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer({"object": "list", "data": []}, headers={"set-cookie": "session=first"})

    upstream.script = script
    async with upstream.client() as client:
        await client.get("/v1/models")
        await client.get("/v1/models")
    assert [call.headers.get("cookie") for call in upstream.calls] == [None, None]


async def test_a_proxy_of_the_environment_is_used(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scripted upstream plays the proxy: it is asked for a whole URL."""
    monkeypatch.setenv("HTTP_PROXY", upstream.url.removesuffix("/v1"))
    monkeypatch.setenv("NO_PROXY", "")
    async with client_of(make_settings("http://models.example/v1")) as client:
        answer = await client.post("/v1/responses", json=ASK)
    assert events(answer.content)[-1]["type"] == "response.completed"
    assert [call.path for call in upstream.calls] == ["http://models.example/v1/chat/completions"]


async def test_no_proxy_is_heeded(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with upstream.client() as client:
        answer = await client.post("/v1/responses", json=ASK)
    assert events(answer.content)[-1]["type"] == "response.completed"


async def test_tls_is_verified(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of an authority that the operator trusts will do, and no other."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    server = await asyncio.start_server(upstream._connected, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        async with client_of(make_settings(url)) as client:
            refused = await client.post("/v1/responses", json=ASK)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        async with client_of(make_settings(url)) as client:
            answer = await client.post("/v1/responses", json=ASK)
    finally:
        server.close()
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        502,
        "The upstream could not be reached.",
    )
    assert events(answer.content)[-1]["type"] == "response.completed"


async def test_what_breaks_is_told_as_it_was(upstream: ScriptedUpstream) -> None:
    """A closed connection is not a timeout, and nothing that the upstream sends is our fault."""

    async def close(call: Call) -> None:
        call.drop()

    async def garbage(call: Call) -> None:
        call._writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await call.gone()

    told: list[tuple[int, str]] = []
    async with upstream.service() as url:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            for script in (close, garbage):
                upstream.script = script
                answer = await client.post("/v1/responses", json=ASK)
                told.append((answer.status_code, answer.json()["error"]["message"]))
    assert told == [
        (502, "The upstream closed the connection before it answered."),
        (502, "The upstream's answer was not valid HTTP."),
    ]


async def test_informational_responses_without_end_are_cut(upstream: ScriptedUpstream) -> None:
    """By their bytes, whatever the timeouts are; and the next request is served."""
    sent = 0

    async def script(call: Call) -> None:
        nonlocal sent
        burst = b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n" * 1000
        while True:
            call._writer.write(burst)
            await call._writer.drain()
            sent += len(burst)

    upstream.script = script
    async with upstream.client(retries=0, headers_grace_s=60) as client:
        answer = await bounded(client.post(PATH, json=ASK))
        assert answer.status_code == 502
        assert sent < 16 * MAX_HEAD_BYTES
        upstream.script = say_hello
        assert (await bounded(client.post(PATH, json=ASK))).status_code == 200


async def test_a_request_has_no_other_headers_than_these() -> None:
    """The operator's replace ours; the rest is what HTTP needs."""
    heads: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await bounded(reader.readuntil(b"\r\n\r\n")))
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    headers = {"User-Agent": "mine", "X-Title": "a  b"}
    url = f"http://127.0.0.1:{port}/v1/../v2/a%20b"
    settings = make_settings(url, upstream={"headers": headers})
    async with server, client_of(settings) as client:
        asked = {"x-request-id": "r1", "accept": "a/b"}
        chat = {"model": "m", "messages": []}
        await client.get("/v1/models", headers=asked)
        await client.post("/v1/chat/completions", json=chat, headers=asked)
    usual = [
        f"host: 127.0.0.1:{port}",
        "connection: keep-alive",
        "accept-encoding: identity",
        "x-request-id: r1",
        "x-translator-hops: ",
        "accept: a/b",
    ]
    mine = ["user-agent: mine", "x-title: a  b"]
    found = [re.sub("(?m)^(x-translator-hops: ).*?$", r"\1", one.decode().strip()) for one in heads]
    assert [one.replace("\r\n", "\n").split("\n") for one in found] == [
        ["GET /v2/a%20b/models HTTP/1.1", *usual, *mine],
        [
            "POST /v2/a%20b/chat/completions HTTP/1.1",
            *usual,
            "content-type: application/json",
            *mine,
            "content-length: 27",
        ],
    ]


def test_headers_are_utf_8_or_latin_1() -> None:
    """As a whole; and those of one name are one list."""
    pairs = [(b"X-A", b"1"), (b"server", "café".encode()), (b"x-a", b"2")]
    assert decoded(pairs) == {"x-a": "1, 2", "server": "café"}
    assert decoded([*pairs, (b"x-b", b"\xe9")]) == {"x-a": "1, 2", "server": "cafÃ©", "x-b": "é"}


async def test_a_url_is_parsed_once(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no request passes httpx, which costs more CPU than all the rest of the way upstream."""
    parsed: list[str] = []

    class Url(httpx.URL):
        def __init__(self, url: str) -> None:
            parsed.append(url)
            super().__init__(url)

    async with upstream.service() as url, httpx.AsyncClient(base_url=url) as client:
        monkeypatch.setattr(transport, "httpx", SimpleNamespace(URL=Url))
        for _ in range(3):
            assert (await client.post(PATH, json=ASK)).status_code == 200
    assert parsed == [f"{upstream.url}/chat/completions"]


async def test_the_end_of_a_body_that_has_come_is_not_waited_for(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that follows the last event is: its connection is used again."""
    reads: list[bool] = []
    read = ConnectionBody.read

    async def counted(body: ConnectionBody, sink: ChunkSink | None = None) -> bytes | None:
        reads.append(body.at_end)
        return await read(body, sink)

    monkeypatch.setattr(ConnectionBody, "read", counted)
    async with upstream.client() as client:
        for _ in range(3):
            assert (await client.post(PATH, json=ASK)).status_code == 200
    assert reads
    assert not any(reads)
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("urls", "environ", "needed"),
    [
        (["http://a/v1"], {}, False),
        (["http://a/v1", "HTTPS://b/v1"], {}, True),
        (["http://a/v1"], {"https_proxy": "https://proxy"}, False),
        (["http://a/v1"], {"http_proxy": "http://proxy"}, False),
        (["http://a/v1"], {"http_proxy": "https://proxy"}, True),
        (["http://a/v1"], {"ALL_PROXY": "HTTPS://proxy"}, True),
        (["http://a/v1"], {"http_proxy": "https://proxy", "no_proxy": "a"}, False),
        (["http://127.0.0.1/v1"], {"http_proxy": "https://proxy"}, False),
        (["https://a/v1"], {"https_proxy": "http://proxy"}, True),
    ],
)
def test_certificates_are_read_where_tls_is_needed(
    urls: list[str], environ: dict[str, str], needed: bool
) -> None:
    assert needs_tls(urls, Proxies(environ)) is needed


def test_without_certificates_no_server_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application without TLS reads none; a request that needed it all the same would fail."""
    read: list[str] = []
    create = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: read.append("all") or create())
    create_app(make_settings("http://up.test/v1"))
    assert read == []
    create_app(make_settings("https://up.test/v1"))
    assert read == ["all"]
    plain = Transport(
        Timeouts(connect_s=1, read_s=1), keepalive_s=1, proxies=Proxies({}), tls=False
    )
    assert plain._ssl.verify_mode is ssl.CERT_REQUIRED
    assert plain._ssl.check_hostname
    assert plain._ssl.cert_store_stats()["x509"] == 0
