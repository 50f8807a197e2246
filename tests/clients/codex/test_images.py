"""Images for a model that takes text only: another one describes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.conftest import serving
from tests.clients.recorder import Recorder
from tests.clients.upstream import Call, ScriptedUpstream, Turn
from translator.request.content import DESCRIBED, IMAGE_OMITTED

from .chat_requests import data_url, image_urls, items, png, results
from .session import Session

Pair = tuple[Session, ScriptedUpstream, ScriptedUpstream]


@pytest.fixture
def pair(codex_binary: str, tmp_path: Path) -> Iterator[Pair]:
    """Codex on a model that takes text only, that model, and the one that describes images.

    Codex knows of the model what the service says of it.
    """
    with ScriptedUpstream() as coder, ScriptedUpstream(speaks="vllm") as eyes:
        model = coder.spoken.model
        file = tmp_path / "settings.toml"
        file.write_text(
            f'[upstreams.first]\nbase_url = "{coder.base_url}"\ndialect = "fireworks"\n'
            f'[upstreams.second]\nbase_url = "{eyes.base_url}"\ndialect = "vllm"\n'
            f'[models."{model}"]\nupstream = "first"\nvision = false\n'
            'describe_images_with = "eyes"\n'
            f'[models."eyes"]\nupstream = "second"\nupstream_model = "{eyes.spoken.model}"\n'
        )
        with serving(None, "--config", str(file)) as base, Recorder(base) as recorder:
            codex = Session(codex_binary, tmp_path, recorder, model)
            listed = httpx.get(f"{base}/models", timeout=20).json()["models"]
            codex.catalog = next(entry for entry in listed if entry["slug"] == model)
            (codex.folder / "image.png").write_bytes(png())
            (codex.folder / "other.png").write_bytes(png(16))
            yield codex, coder, eyes


def texts(request: dict[str, Any]) -> str:
    return json.dumps(request["messages"])


def test_a_screenshot_and_view_image(
    pair: Pair,
) -> None:
    """Each is described once, where it stands, over a second run of the same conversation."""
    codex, coder, eyes = pair
    seen = Call("a", "view_image", {"path": str(codex.folder / "other.png")})
    coder.play(Turn(calls=[seen]), Turn(text="Both are red."), Turn(text="As I said."))
    eyes.play(Turn(text="A red square."), Turn(text="A red bar."))
    outcome = codex.exec("compare these", "--image", "image.png")
    again = codex.exec("are you sure?", "resume", "--last")

    assert (outcome.code, outcome.last_message) == (0, "Both are red."), outcome.log
    assert (again.code, again.last_message) == (0, "As I said."), again.log
    assert coder.refusals == eyes.refusals == []
    looked = [request["messages"][-1] for request in eyes.requests]
    assert [image_urls(message) for message in looked] == [[data_url(png())], [data_url(png(16))]]
    assert all("compare these" in json.dumps(message) for message in looked)
    square, bar = DESCRIBED.format("A red square."), DESCRIBED.format("A red bar.")
    first, second, third = coder.requests
    assert square in first["messages"][-1]["content"]
    assert results(second)["a"] == bar
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert third["messages"][: len(second["messages"])] == second["messages"]
    assert IMAGE_OMITTED not in texts(third)
    assert "image_described" in codex.wire.exchanges[-1].notices
    assert items(codex.requests[1], "function_call_output")[0]["output"][0]["type"] == "input_image"


def test_eyes_that_fail(pair: Pair) -> None:
    """The conversation goes on with the placeholder, and the next turn tries again."""
    codex, coder, eyes = pair
    coder.play(Turn(text="I see nothing."), Turn(text="Now I do."))
    eyes.play()
    outcome = codex.exec("what is this?", "--image", "image.png")
    eyes.play(Turn(text="A red square."))
    again = codex.exec("and now?", "resume", "--last")

    assert (outcome.code, outcome.last_message) == (0, "I see nothing."), outcome.log
    assert (again.code, again.last_message) == (0, "Now I do."), again.log
    assert IMAGE_OMITTED in texts(coder.requests[0])
    assert "A red square." in texts(coder.requests[1])
