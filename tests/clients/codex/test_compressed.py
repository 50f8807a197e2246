"""Codex with a ChatGPT login and a provider called "OpenAI": it compresses its requests with zstd."""

from __future__ import annotations

import base64
import json

import pytest

from tests.clients.conftest import Stage
from tests.clients.upstream import Call, Turn

from .session import PROVIDER, Session


def made_up_token(**claims: object) -> str:
    """A JWT that nobody signed."""
    parts = ({"alg": "none", "typ": "JWT"}, {"exp": 4_102_444_800} | claims)
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*coded, b"c2ln"]).decode()


def log_in(codex: Session) -> None:
    """Write the file that `codex login` would leave behind."""
    account = {"chatgpt_account_id": "made-up", "chatgpt_plan_type": "pro"}
    token = made_up_token(email="a@example.org", **{"https://api.openai.com/auth": account})
    login = {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": token,
            "access_token": token,
            "refresh_token": "made-up",
            "account_id": "made-up",
        },
        "last_refresh": "2099-01-01T00:00:00Z",
    }
    (codex.home / "auth.json").write_text(json.dumps(login))


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_logged_in_user_has_an_answer(codex: Session, stage: Stage) -> None:
    """A call of a tool and its result, each request in zstd."""
    log_in(codex)
    codex.config[f"{PROVIDER}.name"] = "OpenAI"
    codex.config[f"{PROVIDER}.requires_openai_auth"] = True
    del codex.config[f"{PROVIDER}.env_key"]
    stage.play(
        Turn(calls=[Call("call_1", "exec_command", {"cmd": "echo hello"})]), Turn(text="Done.")
    )
    outcome = codex.exec("say hello")

    assert (outcome.code, outcome.last_message) == (0, "Done."), outcome.log
    asked = [one for one in codex.wire.exchanges if one.path.startswith("/v1/responses")]
    assert [(one.encoding, one.status) for one in asked] == [("zstd", 200)] * 2
    assert "hello" in str(stage.requests[-1]["messages"][-1]["content"])
