"""What the service holds of a stream that waits for its next token."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import uvicorn

import translator

from .responses_api import ASK, PATH
from .wire import ScriptedUpstream, bounded, hello_then_silence

# a tracer of coverage would hold a stream, too
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("untraced")]

STREAMS = 60

MAX_BYTES = 23_500
"""For one stream, in objects that the service, uvicorn and aiohttp make: 21,300 with Python 3.11.
Those of the event loop are not among them."""


async def test_a_stream_that_waits_holds_little(upstream: ScriptedUpstream) -> None:
    body = json.dumps(ASK).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def begun(host: str, port: int) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head + body)
        await reader.readuntil(b"output_text.delta")
        return writer

    upstream.script = hello_then_silence
    async with upstream.service() as url:
        address = urlsplit(url)
        assert address.hostname
        assert address.port
        writers = [await bounded(begun(address.hostname, address.port)) for _ in range(3)]
        gc.collect()
        tracemalloc.start()
        try:
            more = [bounded(begun(address.hostname, address.port)) for _ in range(STREAMS)]
            writers += await asyncio.gather(*more)
            await asyncio.sleep(0.1)
            gc.collect()
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        for writer in writers:
            writer.close()
    folders = [str(Path(one.__file__).parent / "*") for one in (translator, uvicorn, aiohttp)]
    ours = snapshot.filter_traces([tracemalloc.Filter(True, folder) for folder in folders])
    held = sum(one.size for one in ours.statistics("filename")) / STREAMS
    assert held < MAX_BYTES
