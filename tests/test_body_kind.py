"""`replay` refuses a file that is no response body of an upstream, and says what it is."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.captures.body_kind import why_no_answer
from translator.reader.sse import MAX_EVENT_BYTES

CHUNK = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
CREATED = b'event: response.created\ndata: {"type":"response.created","response":{}}\n\n'
FAILED = b'data: {"type":"error","message":"x","code":"y"}\n\n'

NO_ANSWERS = {
    b"": "it is empty",
    b"\xef\xbb\xbf \r\n": "it is empty",
    b"\0\1\2": "binary",
    b"\x89PNG\xff": "binary",
    gzip.compress(CHUNK): "binary, or compressed",
    b"<html><title>502</title></html>": "HTML",
    b"<?xml version='1.0'?>": "HTML, or XML",
    b"HTTP/1.1 200 OK\r\n\r\n{}": "the header of an HTTP response",
    b'{"model":"m","input":"Hi"}': "it is a request; --request",
    b'{"model":"m","messages":[]}': "it is a request; --request",
    b'{"object":"response","output":[],"error":null}': "a response of the Responses API",
    b'{"a":1}': 'it has no "choices"',
    b"[1, 2]": 'it has no "choices"',
    b'{"a":': "neither an event stream nor JSON",
    b"Hello.\nIt is text.": "neither an event stream nor JSON",
    b": a comment\n\n": "neither an event stream nor JSON",
    b"null": "neither an event stream nor JSON",
    CREATED: "events of the Responses API",
    b'data: {"x":1}\n\ndata: [1]\n\ndata: cut': 'none has "choices"',
}


@pytest.mark.parametrize("body", NO_ANSWERS)
def test_what_is_no_response_body_is_refused(
    body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "given"
    file.write_bytes(body)
    for more in ([], ["--json"]):
        assert main(["replay", str(file), *more]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"translator: {file} is no response body of an upstream: it")
        assert NO_ANSWERS[body] in err
        assert err.count("\n") == 1


def test_so_is_nothing_on_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["replay"]) == 2
    sentence = "translator: standard input is no response body of an upstream: it is empty\n"
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize(
    "body",
    [
        CHUNK,
        CHUNK[:30],
        CHUNK + "é".encode()[:1],
        b"data: [DONE]\n\n",
        b'{"choices":[]}',
        b'{"choices":[{"message":{"cont',
        b'{"error":{"message":"no"}}',
        b'[{"error":{"message":"no"}}]',
        b'{"detail":"Not Found"}',
        b'{"base_resp":{"status_code":1004,"status_msg":"login fail"}}',
        FAILED,
        b'data: {"error":{"message":"no"}}\n\n',
        b": wait\n\n" + CHUNK,
    ],
)
def test_an_answer_that_is_cut_or_has_an_error_is_replayed(
    body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "given"
    file.write_bytes(body)
    assert main(["replay", str(file), "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["type"] in ("response.completed", "response.failed", "response.incomplete")


def test_a_stream_that_is_too_large_is_for_the_translation_to_refuse() -> None:
    assert why_no_answer(b"data: " + b"x" * MAX_EVENT_BYTES + b"x\n\n") == ""


def test_a_folder_that_is_no_exchange_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of several exchanges says how to name one."""
    nothing = f"translator: {tmp_path} cannot be replayed: there is no "
    assert main(["replay", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{nothing}exchange.toml in it\n"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "exchange.toml").write_text("")
    assert main(["replay", str(tmp_path)]) == 2
    hint = f"exchange.toml in it; name one of the 2 exchanges in it, as in {tmp_path}/two\n"
    assert capsys.readouterr().err == nothing + hint


@pytest.mark.parametrize("manifest", [b"", b"\xff\xfe", b"[[[", b"<html>", b'translator = "1"'])
def test_a_manifest_of_another_kind_is_one_sentence(
    manifest: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exchange.toml").write_bytes(manifest)
    assert main(["replay", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"translator: {tmp_path} cannot be replayed: exchange.toml: ")
    assert err.count("\n") == 1
