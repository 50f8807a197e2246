"""llama.cpp's own HTTP server, out of the wheel xllamacpp; prints its URL when it listens.

    python -m tests.engines.llama_cpp MODEL.gguf [JSON]

The JSON object sets fields of llama.cpp's parameters. One thread computes: with more than there are
free cores, llama.cpp's threads spin while they wait for each other, and a token takes a hundred
times as long.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import xllamacpp

DEFAULTS: dict[str, Any] = {
    "port": 0,
    "n_parallel": 16,
    "n_ctx": 65_536,
    "kv_unified": True,
    "use_jinja": True,
    "warmup": False,
    "ui": False,
    "endpoint_slots": True,
}


def main() -> None:
    model, *fields = sys.argv[1:]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = ["parrot"]
    parameters.sampling.temp = 0  # where a grammar leaves several tokens, always the same one
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    for name, value in (DEFAULTS | json.loads(fields[0] if fields else "{}")).items():
        setattr(parameters, name, value)
    server = xllamacpp.Server(parameters)
    print("listens on", server.listening_address, flush=True)
    signal.pause()
    del server


if __name__ == "__main__":
    main()
