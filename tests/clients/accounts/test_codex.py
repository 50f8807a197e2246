"""Codex, whose account is empty, or has something left."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import pytest

from tests.clients.codex.session import PROVIDER, Session
from tests.clients.conftest import with_older_codex
from tests.clients.recorder import Recorder
from tests.clients.talks import overheard
from tests.clients.upstream import Turn, Usage
from translator.service.accounts.money import PICO

from .conftest import Gateway

CodexWithKey = Callable[[str], Session]


@with_older_codex
def test_real_codex_with_an_empty_account(gateway: Gateway, codex_with_key: CodexWithKey) -> None:
    """Scenario 12: it asks once, says why, and fails."""
    codex = codex_with_key(gateway.key())
    outcome = codex.exec("say hello")

    assert outcome.code == 1
    assert "Quota exceeded. Check your plan and billing details." in outcome.log
    posts = [one for one in codex.wire.exchanges if one.path.endswith("/responses")]
    assert [one.status for one in posts] == [429]
    assert posts[0].headers["x-should-retry"] == "false"
    assert "retry-after" not in posts[0].headers
    assert gateway.upstream.requests == []


def test_real_codex_with_an_empty_account_on_a_websocket(
    gateway: Gateway, codex_with_key: CodexWithKey
) -> None:
    """Scenario 12: one turn and one connection, which the refusal does not close."""
    codex = codex_with_key(gateway.key())
    codex.config[f"{PROVIDER}.supports_websockets"] = True
    with overheard(gateway.url) as (heard_url, talks):
        codex.config[f"{PROVIDER}.base_url"] = heard_url
        outcome = codex.exec("say hello")

        assert outcome.code == 1
        assert "Quota exceeded" in outcome.log
        [talk] = talks
        asked = [one for one in talk.requests if one.get("generate") is not False]
        assert len(asked) == 1
    assert gateway.upstream.requests == []


@with_older_codex
def test_real_codex_sees_the_balance(gateway: Gateway, codex_with_key: CodexWithKey) -> None:
    """Scenario 14: with two decimals, rounded down, as it was when the request began."""
    codex = codex_with_key(gateway.key(balance="12.349"))
    gateway.upstream.play(Turn(text="Hello.", usage=Usage(prompt=1000, completion=100)))
    messages = codex.talk("say hello")

    found = [
        one["params"]["rateLimits"]["credits"]
        for one in messages
        if one.get("method") == "account/rateLimits/updated"
    ]
    assert found, [one.get("method") for one in messages]
    assert found[-1]["balance"] == "12.34"
    assert found[-1]["hasCredits"] is True
    assert found[-1]["unlimited"] is False


def sign_in(codex: Session, gateway: Gateway, key: str) -> None:
    """Have Codex send the key to what it takes for ChatGPT's backend: our service."""
    claims = {
        "email": "anna@example.org",
        "exp": int(time.time()) + 86_400,
        "https://api.openai.com/auth": {"chatgpt_plan_type": "pro", "chatgpt_account_id": "a"},
    }
    parts = (json.dumps({"alg": "none"}), json.dumps(claims), "signature")
    token = ".".join(base64.urlsafe_b64encode(one.encode()).decode().rstrip("=") for one in parts)
    tokens = {"id_token": token, "access_token": key, "refresh_token": "r", "account_id": "a"}
    signed_in = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens}
    signed_in["last_refresh"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    (codex.home / "auth.json").write_text(json.dumps(signed_in))
    codex.config["chatgpt_base_url"] = codex.wire.base_url.removesuffix("/v1")


@pytest.mark.parametrize("codex_binary", ["codex"], indirect=True)
def test_real_codex_asks_for_balance_and_limit(
    gateway: Gateway, codex_with_key: CodexWithKey, recorder: Recorder
) -> None:
    """Its `/status` asks `chatgpt_base_url`, where it is signed in there; with a key alone, never."""
    key = gateway.key(balance="5", limit_amount=2 * PICO, limit_period="month")
    codex = codex_with_key(key)
    sign_in(codex, gateway, key)
    found = codex.asked("account/rateLimits/read")["result"]["rateLimits"]

    assert found["credits"] == {"hasCredits": True, "unlimited": False, "balance": "2.00"}
    assert found["primary"]["usedPercent"] == 0
    assert found["primary"]["windowDurationMins"] in {days * 1440 for days in (28, 29, 30, 31)}
    assert found["secondary"] is None
    [asked] = [one for one in recorder.exchanges if one.path == "/api/codex/usage"]
    assert asked.status == 200


def test_real_codex_with_a_key_alone_does_not_ask(
    gateway: Gateway, codex_with_key: CodexWithKey, recorder: Recorder
) -> None:
    codex = codex_with_key(gateway.key(balance="5"))
    refused = codex.asked("account/rateLimits/read")
    assert "authentication required" in refused["error"]["message"]
    assert recorder.exchanges == []
