"""`translator key new`: prints a new key, and the TOML that admits its client."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from translator.__main__ import main
from translator.service.config.loading import read_table

from .responses_api import ASK_WHOLE
from .wire import ScriptedUpstream, client_of

KEY = re.compile(r"^trk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$", re.MULTILINE)


def printed(capsys: pytest.CaptureFixture[str], name: str) -> tuple[str, dict[str, Any]]:
    """The key, and the TOML below it."""
    assert main(["key", "new", name]) == 0
    out = capsys.readouterr().out
    [key] = KEY.findall(out)
    return key, tomllib.loads(out[out.index("[clients.") :])


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["alice", "the second floor", "Ærø", 'a"b'])
async def test_the_printed_toml_admits_the_client(
    upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    key, table = printed(capsys, name)
    other, _ = printed(capsys, name)
    assert list(table["clients"]) == [name]
    assert key not in str(table)
    settings = read_table(table | {"upstreams": {"up": {"base_url": upstream.url}}}, {})
    async with client_of(settings) as client:
        answers = [
            await client.post(
                "/v1/responses", json=ASK_WHOLE, headers={"authorization": f"Bearer {one}"}
            )
            for one in (key, other)
        ]
    assert [answer.status_code for answer in answers] == [200, 401]


@pytest.mark.parametrize("words", [["key"], ["key", "new"], ["key", "old", "a"], ["key", "new", ""], ["key", "new", "a\nb"]])  # fmt: skip
def test_a_wrong_argument_is_one_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
