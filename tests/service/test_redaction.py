"""Redaction: a secret is found in every spelling, and nothing else is changed."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translator.service.base.redaction import MAX_ESCAPES, MAX_LAYERS, Redaction
from translator.service.config.loading import read_table
from translator.service.config.secrets import secrets_in, settings_secrets, url_secrets

KEY = "sk-Proj_9/x+Y.operator=1"
QUOTED = 'pass"word\\1/2'


def hexed(text: str, form: str) -> str:
    return "".join(form % ord(one) for one in text)


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "json": lambda key: in_json(key),
    "php": lambda key: in_json(key).replace("/", "\\/"),
    "every character": lambda key: hexed(key, "\\u%04x"),
    "capital digits": lambda key: hexed(key, "\\u%04X"),
    "json in json": lambda key: in_json(in_json(hexed(key, "\\u%04x"))),
    "php in json": lambda key: in_json(in_json(key).replace("/", "\\/")),
    "json in json in json": lambda key: in_json(in_json(in_json(key))),
    "url": lambda key: quote(key, safe=""),
    "small url": lambda key: quote(key, safe="").lower(),
    "url twice": lambda key: quote(quote(key, safe=""), safe=""),
    "each as url": lambda key: hexed(key, "%%%02x"),
    "url in json": lambda key: hexed(key, "\\u0025%02x"),
    "html": html.escape,
    "html numbers": lambda key: hexed(key, "&#%d;"),
    "html hexadecimals": lambda key: hexed(key, "&#x%x;"),
    "repr": lambda key: hexed(key, "\\x%02x"),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "basic, user": lambda key: base64.b64encode(f"{key}:".encode()).decode(),
    "basic, password": lambda key: base64.b64encode(f"u:{key}".encode()).decode(),
    "basic, other password": lambda key: base64.b64encode(f"me:{key}".encode()).decode(),
    "url-safe": lambda key: base64.urlsafe_b64encode(f"??{key}??".encode()).decode(),
    "base64 in a url": lambda key: quote(base64.b64encode(f"u:{key}".encode()).decode(), safe=""),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("key", [KEY, QUOTED], ids=["key", "quotes"])
def test_a_secret_is_found_in_every_spelling(spell: Callable[[str], str], key: str) -> None:
    clean = Redaction([key, "another-secret"])
    for text in (f"Bad key '{spell(key)}'!", f"{spell(key)} {spell(key)}", spell(key)):
        found = clean.text(text)
        assert spell(key) not in found
        assert found == text.replace(spell(key), "[removed]")


def test_what_is_no_secret_keeps_its_bytes() -> None:
    clean = Redaction([KEY, "short", ""])
    for data in (b"", b"\xff\\u00", b"short", b"%7", b"&amp;\\\\\\", KEY[:-1].encode(), b"100%25"):
        assert clean(data) is data
    assert Redaction(["short"])(b"short") == b"short"
    assert Redaction([])(KEY.encode()) == KEY.encode()


def test_json_stays_json() -> None:
    body = json.dumps({"error": {"message": f'"{QUOTED}" \\', "code": QUOTED, QUOTED: 1}})
    for text in (body, body.replace("/", "\\/"), json.dumps({"raw": body})):
        assert QUOTED not in str(json.loads(Redaction([QUOTED]).text(text)))


@given(st.text(max_size=60), st.text('0123456789abcdefu\\%&#x;/+="', max_size=40), st.data())
def test_only_the_secret_is_replaced(before: str, after: str, data: st.DataObject) -> None:
    spell = data.draw(st.sampled_from(list(SPELLINGS.values())))
    clean = Redaction([KEY])
    text = f"{before} {spell(KEY)} {after}"
    assert KEY.lower() not in clean.text(text).lower()
    assert clean.text(f"{before} {after}") == f"{before} {after}"
    spans = clean.spans(text.encode("utf-8", "surrogatepass"))
    assert all(start < stop for start, stop in spans)
    assert clean.text(text).startswith(before) or before.endswith("\\")


def test_a_text_that_was_cut_does_not_end_in_half_a_secret() -> None:
    clean = Redaction([KEY])
    assert clean.message(f"Bad key {KEY[:-1]}") == "Bad key [removed]"
    assert clean.message(f"Bad key {KEY[:9]}…") == "Bad key [removed]…"
    assert clean.message(f"Bad key {KEY[:7]}…") == f"Bad key {KEY[:7]}…"
    assert clean.message(f"Bad key {KEY}.") == "Bad key [removed]."


def test_more_secrets_can_be_added() -> None:
    clean = Redaction([KEY])
    assert clean.with_secrets([KEY]) is clean
    assert clean.with_secrets(["another-secret"]).text(f"another-secret {KEY}").count("[") == 2


def test_the_work_is_linear() -> None:
    """Whatever an upstream sends: escapes, parts of base64, the secret itself, many times."""
    clean = Redaction([KEY])
    clean.max_escapes = None
    core = base64.b64encode(KEY.encode())[:-4]

    def seconds(unit: bytes, count: int) -> float:
        began = time.process_time()
        clean(unit * count)
        return time.process_time() - began

    for unit in (b"\\u0073", b"\\\\\\\\\\\\", b"%2525", b"&", b"&#115;", core, KEY.encode()):
        few = max(min(seconds(unit, 2_000) for _ in range(3)), 0.0005)
        assert seconds(unit, 20_000) < 40 * few, unit


def test_what_has_too_many_escapes_is_removed_as_a_whole() -> None:
    """To undo them all would take a while, in which no other request is answered."""
    for unit in ("\\u0073", "%73", "&amp;"):
        assert Redaction([KEY]).text(unit * MAX_ESCAPES) == unit * MAX_ESCAPES
        assert Redaction([KEY]).text(unit * (MAX_ESCAPES + 1)) == "[removed]"
    assert Redaction([]).text("%73" * (MAX_ESCAPES + 1)) == "%73" * (MAX_ESCAPES + 1)


def test_layers_are_bounded() -> None:
    text = KEY
    for _ in range(MAX_LAYERS + 3):
        text = json.dumps(text)[1:-1].replace("/", "\\/")
    assert Redaction([KEY]).text(text) in (text, "[removed]")


# --- what is secret -------------------------------------------------------------------------------


def test_the_secrets_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:proxy-password@proxy.test:3128")
    monkeypatch.setenv("http_proxy", "you:other%2Fpassword@proxy.test")
    table = {
        "upstreams": {
            "up": {
                "base_url": "http://up.test/v1",
                "api_key_env": "KEY",
                "headers": {
                    "x-title": "the translator",
                    "Api-Key": "planted-api-key",
                    "cookie": "a=planted-cookie; b=short",
                    "x-auth": "Basic " + base64.b64encode(b"me:planted-password").decode(),
                },
            }
        }
    }
    found = settings_secrets(read_table(table, {"KEY": KEY}))
    assert found >= {KEY, "planted-api-key", "planted-cookie", "planted-password"}
    assert found >= {"proxy-password", "me:proxy-password", "other/password"}
    assert not {"the translator", "short"} & found


def test_the_secrets_of_a_url() -> None:
    assert url_secrets("https://a.test/path?x=planted-1&planted-2#f") == {"planted-1", "planted-2"}
    assert url_secrets("https://[") == set()
    assert secrets_in({"authorization": "Basic not base64"}) == {"Basic not base64"}
