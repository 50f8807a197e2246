"""LiteLLM's translation of a request, called as a library: `json.loads`, its bridge, `json.dumps`.

    .bench/venvs/litellm/bin/python -m bench.litellm_request ROUNDS

Runs in LiteLLM's own environment, so it imports nothing that needs more than the standard library.
Prints milliseconds per body, as JSON.
"""

from __future__ import annotations

import json
import sys

from .bodies import request, requests
from .timing import milliseconds


def translate(body: bytes) -> bytes:
    from litellm.responses.litellm_completion_transformation import transformation

    asked = json.loads(body)
    bridge = transformation.LiteLLMCompletionResponsesConfig
    chat = bridge.transform_responses_api_request_to_chat_completion_request(
        model=asked.pop("model"),
        input=asked.pop("input"),
        stream=asked.pop("stream"),
        responses_api_request=asked,
        custom_llm_provider="openai",
    )
    return json.dumps(chat).encode()


if __name__ == "__main__":
    translate(request(1_000))  # what happens only once
    found = {
        name: milliseconds(int(sys.argv[1]), body, {"litellm": translate})["litellm"]
        for name, body in requests().items()
    }
    print(json.dumps(found))
