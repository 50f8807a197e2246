"""OpenAI's own packages on an empty account: one request, and the right error. Scenario 13."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import openai
import pytest

from tests.clients.node_programs import environment, workshop
from tests.clients.recorder import Recorder

from .conftest import Gateway

RUN_S = 60

NODE = """
import OpenAI from 'openai';
const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3] });
const messages = [{ role: 'user', content: 'Hi' }];
const model = process.argv[4];
for (const ask of [
  () => client.responses.create({ model, input: 'Hi' }),
  () => client.responses.create({ model, input: 'Hi', stream: true }),
  () => client.chat.completions.create({ model, messages }),
]) {
  try {
    await ask();
    console.log('null');
  } catch (error) {
    const limited = error instanceof OpenAI.RateLimitError;
    console.log(JSON.stringify({ limited, code: error.code, status: error.status }));
  }
}
"""


def test_openai_for_python_asks_once(gateway: Gateway, recorder: Recorder) -> None:
    with openai.OpenAI(base_url=recorder.base_url, api_key=gateway.key()) as client:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as refused:
                client.responses.create(model=gateway.model, input="Hi", stream=stream)
            assert refused.value.code == "insufficient_quota"
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(
                model=gateway.model, messages=[{"role": "user", "content": "Hi"}]
            )
        assert refused.value.code == "insufficient_quota"
    assert [one.status for one in recorder.exchanges] == [429] * 3
    assert gateway.upstream.requests == []


def test_openai_for_node_asks_once(gateway: Gateway, recorder: Recorder, tmp_path: Path) -> None:
    program = workshop(tmp_path, "openai") / "empty.mjs"
    program.write_text(NODE)
    done = subprocess.run(
        ["node", str(program), recorder.base_url, gateway.key(), gateway.model],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [{"limited": True, "code": "insufficient_quota", "status": 429}] * 3
    assert [one.status for one in recorder.exchanges] == [429] * 3
    assert gateway.upstream.requests == []
