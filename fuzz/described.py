"""Schemathesis: requests generated from the service's OpenAPI description (`make schemathesis`).

    python -m fuzz.described [EXAMPLES]        per operation; exit code 0 when all checks pass

The service runs on a free port, with a client key, in front of a scripted upstream that answers
every request successfully. So every 5xx, and every response that the description does not allow, is
a bug of ours.

The check `positive_data_acceptance` is excluded. A request that fits the schema may be rejected,
since input items, tools and conflicting fields are checked by code and not by the schema.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from tests.service.wire import Call, ScriptedUpstream, say_hello, serving
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table

EXAMPLES = 200
LISTED: dict[str, Any] = {
    "object": "list",
    "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "up"}],
}


async def respond(call: Call) -> None:
    """Answer every request successfully."""
    if call.method == "GET":
        await call.answer(LISTED if call.path.endswith("/models") else LISTED["data"][0])
    else:
        await say_hello(call)


async def main(examples: int) -> int:
    """Run schemathesis; returns its exit code."""
    key = new_key()
    async with ScriptedUpstream().running() as upstream:
        upstream.script = respond
        settings = read_table(
            {
                "upstreams": {"up": {"base_url": upstream.url}},
                "clients": {"fuzz": {"keys": [str(store(key))]}},
            },
            {},
        )
        async with serving(settings) as url:
            words = [
                *("run", f"{url}/openapi.json", "--no-color", "--seed", "1"),
                *("--header", f"Authorization: Bearer {key}"),
                *("--max-examples", str(examples), "--phases", "examples,coverage,fuzzing"),
                *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
                *("--suppress-health-check", "all"),
            ]
            program = Path(sys.executable).with_name("schemathesis")
            environment = os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
            running = await asyncio.create_subprocess_exec(program, *words, env=environment)
            try:
                return await running.wait()
            finally:
                if running.returncode is None:
                    running.kill()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES)))
