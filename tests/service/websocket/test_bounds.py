"""What goes wrong on a WebSocket, how many turns run at once, and what is bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from typing import Any

import httpx
import pytest
import websockets

from tests.service.wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    bounded,
    make_settings,
    say_hello,
    serving,
)
from translator.service.http import websocket as service_websocket

from .client import (
    CREATE,
    ask,
    asked,
    id_of,
    open_socket,
    receive_event,
    receive_response,
    socket_to,
    types,
)

pytestmark = pytest.mark.anyio


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ('{"type":"response.create","input":[{]}', "invalid_json", None),
        (b"\xff", "invalid_json", None),
        ("{}", "unknown_event_type", "type"),
        ('{"type":"response.steer","input":"x"}', "unknown_event_type", "type"),
        ('{"type":"response.create","stream_id":""}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":"a b"}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":3}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","model":"m"}', "missing_required_parameter", "input"),
        ('{"type":"response.create","model":3,"input":"x"}', "invalid_type", "model"),
        ('{"type":"response.create","model":"m","input":"x","previous_response_id":3}',
         "invalid_type", "previous_response_id"),
    ],
)  # fmt: skip
async def test_an_error_leaves_the_socket_usable(
    upstream: ScriptedUpstream, message: str | bytes, code: str, param: str | None
) -> None:
    async with socket_to(upstream) as socket:
        await socket.send(message)
        error = await receive_event(socket)
        assert error["type"] == "error"
        assert error["status"] == 400
        assert set(error["error"]) == {"type", "code", "message", "param"}
        assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        assert upstream.calls == []
        assert types(await ask(socket))[-1] == "response.completed"


async def test_a_refusal_keeps_its_status_and_its_headers(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "slow down"}}, 429, headers={"retry-after": "7"})

    upstream.script = script
    async with socket_to(upstream) as socket:
        [error] = await ask(socket)
    assert error["status"] == 429
    assert error["error"]["code"] == "rate_limit_exceeded"
    assert error["error"]["headers"]["retry-after"] == "7"
    assert error["headers"]["retry-after"] == "7"


async def test_a_fault_of_our_own_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise KeyError("secret detail")

    settings = make_settings("http://up.test/v1")
    async with serving(settings, transport=httpx.MockTransport(broken)) as base:
        async with open_socket(base) as socket:
            [error] = await ask(socket)
            assert (error["status"], error["error"]["message"]) == (500, "The translator failed.")
            [again] = await ask(socket)
            assert again["status"] == 500
    assert "secret detail" in caplog.text


async def test_no_place_for_a_turn_is_a_503_that_costs_nothing(upstream: ScriptedUpstream) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        if call.json["messages"][-1]["content"] == "wait":
            arrived.set()
            await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream, max_concurrent_requests=1) as socket:
        first = await ask(socket)
        await socket.send(json.dumps(CREATE | {"stream_id": "a", "input": "wait"}))
        await bounded(arrived.wait())
        [error] = await ask(socket, previous_response_id=id_of(first))
        assert (error["status"], error["error"]["code"]) == (503, "server_error")
        assert error["headers"]["retry-after"] == "1"
        go.set()
        await receive_response(socket)
        assert id_of(await ask(socket, previous_response_id=id_of(first)))


# --- lanes ----------------------------------------------------------------------------------------


async def test_a_lane_is_first_in_first_out(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream) as socket:
        for number in range(5):
            await socket.send(json.dumps(CREATE | {"input": str(number), "stream_id": "a"}))
        for _ in range(5):
            found = await receive_response(socket)
            assert {event["stream_id"] for event in found} == {"a"}
            assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [content for [(_, content)] in (asked(upstream, n) for n in range(5))] == list("01234")


async def test_lanes_do_not_wait_for_each_other(upstream: ScriptedUpstream) -> None:
    """One stands still; two others, and the one without a name, go on."""
    slow, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        if call.json["messages"][-1]["content"] == "slow":
            slow.set()
            await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream) as socket:
        await socket.send(json.dumps(CREATE | {"input": "slow", "stream_id": "slow"}))
        await bounded(slow.wait())
        for lane in ({"stream_id": "a"}, {"stream_id": "b-1._X"}, {}, {"stream_id": None}):
            found = await ask(socket, **lane)
            assert types(found)[-1] == "response.completed"
            assert {event.get("stream_id") for event in found} == {lane.get("stream_id")}
        go.set()
        assert {event["stream_id"] for event in await receive_response(socket)} == {"slow"}


async def test_sixteen_lanes_are_answered_at_once_and_more_wait(upstream: ScriptedUpstream) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream) as socket:
        for number in range(20):
            await socket.send(json.dumps(CREATE | {"stream_id": f"lane{number}"}))
        while len(upstream.calls) < 16:
            await asyncio.sleep(0.01)
        await bounded(await socket.ping())  # everything that was sent has been read
        await asyncio.sleep(0.1)
        assert len(upstream.calls) == 16
        go.set()
        ended: set[str] = set()
        while len(ended) < 20:
            event = await receive_event(socket)
            if event["type"] == "response.completed":
                ended.add(event["stream_id"])
    assert len(upstream.calls) == 20


async def test_a_connection_knows_32_names(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream) as socket:
        for number in range(32):
            await ask(socket, stream_id=f"lane{number}", generate=False)
        [error] = await ask(socket, stream_id="one-more", generate=False)
        assert error["status"] == 400
        assert error["error"]["code"] == "websocket_stream_limit_reached"
        assert (
            types(await ask(socket, stream_id="lane3", generate=False))[-1] == "response.completed"
        )
        assert types(await ask(socket, generate=False))[-1] == "response.completed"


# --- bounds ---------------------------------------------------------------------------------------


async def test_what_waits_is_bounded_in_number(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_websocket, "MAX_WAITING", 2)
    await overflow(upstream, CREATE, fitting=2)


async def test_what_waits_is_bounded_in_bytes(upstream: ScriptedUpstream) -> None:
    await overflow(upstream, CREATE | {"input": "x" * 500}, fitting=1, max_body_bytes=1000)


async def overflow(
    upstream: ScriptedUpstream, message: dict[str, Any], *, fitting: int, **settings: Any
) -> None:
    """One turn runs, `fitting` more wait, and the next is refused; then all of them are answered."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream, **settings) as socket:
        await socket.send(json.dumps(message))
        await bounded(arrived.wait())
        for _ in range(fitting + 1):
            await socket.send(json.dumps(message))
        error = await receive_event(socket)
        assert (error["type"], error["status"]) == ("error", 429)
        assert error["error"]["code"] == "rate_limit_exceeded"
        go.set()
        for _ in range(fitting + 1):
            assert types(await receive_response(socket))[-1] == "response.completed"
        assert types(await ask(socket))[-1] == "response.completed"


async def test_a_message_over_the_limit_ends_the_connection(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream, max_body_bytes=1000) as socket:
        await socket.send(json.dumps(CREATE | {"input": "x" * 2000}))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await bounded(socket.recv())
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert upstream.calls == []


async def test_more_sockets_than_allowed_are_a_503(upstream: ScriptedUpstream) -> None:
    """While all of them are in use; then the one that has been idle for longest gives way."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with upstream.service(max_websockets=1) as base, open_socket(base) as socket:
        answer = asyncio.create_task(ask(socket))
        await bounded(arrived.wait())
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with open_socket(base):
                pass
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == "1"
        go.set()
        assert types(await answer)[-1] == "response.completed"
        async with asyncio.timeout(BOUND_S):
            while True:  # its end is noticed a little later
                try:
                    async with open_socket(base) as other:
                        assert types(await ask(other))[-1] == "response.completed"
                        break
                except websockets.InvalidStatus:
                    await asyncio.sleep(0.01)
        error = (await receive_event(socket))["error"]
        assert error["code"] == "websocket_connection_limit_reached"
        with pytest.raises(websockets.ConnectionClosed):
            await bounded(socket.recv())


async def test_a_connection_lasts_so_long(upstream: ScriptedUpstream) -> None:
    """What is being answered is finished, what waits or comes later is refused, then it closes."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream, max_websocket_s=2) as socket:
        await socket.send(json.dumps(CREATE))
        await bounded(arrived.wait())
        await socket.send(json.dumps(CREATE | {"input": "waits"}))
        found: list[dict[str, Any]] = [{}]
        async with asyncio.timeout(BOUND_S):
            while "status" not in found[0]:
                await asyncio.sleep(0.05)
                found = await ask(socket, stream_id="late", generate=False)
        assert found[0]["error"]["code"] == "websocket_connection_limit_reached"
        assert found[0]["stream_id"] == "late"
        go.set()
        assert types(await receive_response(socket))[-1] == "response.completed"
        for _ in range(2):  # for the one that waited, and for the connection
            error = await receive_event(socket)
            assert (error["type"], error["status"]) == ("error", 400)
            assert error["error"]["code"] == "websocket_connection_limit_reached"
        with pytest.raises(websockets.ConnectionClosedOK):
            await bounded(socket.recv())
    assert len(upstream.calls) == 1


# --- what is no WebSocket -------------------------------------------------------------------------


def frame(opcode: int, payload: bytes, *, fin: int = 1, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame as a client sends it, under a mask of zeros."""
    size = (
        bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
    )
    mask = b"\0\0\0\0" if masked else b""
    return bytes([fin << 7 | rsv << 4 | opcode, size[0] | masked << 7]) + size[1:] + mask + payload


TURN = json.dumps(CREATE).encode()
HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)

ILLEGAL = {
    "not UTF-8": (frame(1, b"{\xff}"), 1007),
    "not UTF-8 in two frames": (frame(1, b"{\xc3", fin=0) + frame(0, b"(}"), 1007),
    "not UTF-8 twice": (frame(1, b"\xff") * 2, 1007),
    "not UTF-8 within a turn": (frame(1, TURN) + frame(1, b"\xff"), 1007),
    "reserved bits": (frame(1, b"{}", rsv=4), 1002),
    "a large ping": (frame(9, b"x" * 126), 1002),
    "a ping in two frames": (frame(9, b"", fin=0), 1002),
    "no mask": (frame(1, b"{}", masked=False), 1002),
    "a continuation of nothing": (frame(0, b"{}"), 1002),
    "a message in a message": (frame(1, b"{", fin=0) + frame(1, b"}"), 1002),
    "a reserved opcode": (frame(3, b""), 1002),
    "a reserved control frame": (frame(11, b""), 1002),
    "a close frame of one byte": (frame(8, b"x"), 1002),
    "a close frame with an illegal code": (frame(8, struct.pack(">H", 1005)), 1002),
    "a close frame that is not UTF-8": (frame(8, struct.pack(">H", 1000) + b"\xff"), 1007),
    "a length of 2^63": (b"\x81\xff" + b"\x80" + b"\0" * 11, 1009),
    "rubbish": (b"\xff" * 500, 1002),
    "HTTP": (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 1002),
}


@pytest.mark.parametrize("name", ILLEGAL)
async def test_illegal_frames_close_the_connection_quietly(
    upstream: ScriptedUpstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the code of RFC 6455 (7.4.1), without a word above the line of the session."""
    data, code = ILLEGAL[name]
    async with upstream.service() as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(HANDSHAKE + b"\r\n")
        assert (await bounded(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101 ")
        writer.write(data)
        answer = await bounded(reader.read())
        writer.close()
        close = answer.rindex(b"\x88", 0, max(1, len(answer) - 3)) if b"\x88" in answer else -1
        assert answer[close + 2 : close + 4] == struct.pack(">H", code)
        assert (await ask_on_another(base))[-1]["type"] == "response.completed"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def ask_on_another(base: str) -> list[dict[str, Any]]:
    async with open_socket(base) as socket:
        return await ask(socket)


UNREADABLE = {
    "a body": (b"content-length: 5\r\n\r\nhello", 400, None),
    "a body in chunks": (b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, None),
    "a long header": (b"x: " + b"a" * 20_000 + b"\r\n\r\n", 431, "header_too_large"),
    "many headers": (b"x: a\r\n" * 300 + b"\r\n", 431, "header_too_large"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_handshake_that_cannot_be_read_is_answered(
    upstream: ScriptedUpstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rest, status, code = UNREADABLE[name]
    async with upstream.service() as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(HANDSHAKE + rest)
        head, _, body = (await bounded(reader.read())).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("name", [*UNREADABLE, "no key"])
async def test_such_a_handshake_is_logged_and_counted(
    upstream: ScriptedUpstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rest, status, _ = UNREADABLE.get(name, (b"\r\n", 400, None))
    begin = HANDSHAKE.partition(b"sec-websocket-key")[0] if name == "no key" else HANDSHAKE
    async with upstream.service() as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(begin + rest)
        await bounded(reader.read())
        writer.close()
        async with httpx.AsyncClient(base_url=base) as client:
            page = (await client.get("/metrics")).text
    said = next(one.getMessage() for one in caplog.records if "request gets a" in one.msg)
    assert said.startswith(f"a client's request gets a {status}: ")
    assert 'translator_connections_cut_total{reason="refused"} 1.0' in page
