"""Texts, images, sounds and files: how each goes up, and what stands for what cannot."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from msgspec import Raw

import translator
from tests.conversations import (
    CHAT_IMAGE,
    IMAGE,
    codes,
    messages,
    refusal,
    user,
)


def test_images_stand_among_texts() -> None:
    content = [{"type": "input_text", "text": "look"}, IMAGE]
    assert messages([{"role": "user", "content": content}]) == [
        {"role": "user", "content": [{"type": "text", "text": "look"}, CHAT_IMAGE]}
    ]
    bare = {"type": "input_image", "image_url": "https://example.com/a.png"}
    (message,) = messages([{"role": "user", "content": [bare]}])
    assert message["content"] == [{"type": "image_url", "image_url": {"url": bare["image_url"]}}]


def test_an_image_that_the_model_cannot_see_is_told() -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "look"}, IMAGE]}]
    assert messages(items, vision=False) == [
        user("look\n[image omitted: the model takes text only]")
    ]
    assert codes(items, vision=False) == {"input[0].content[1]": "image_omitted"}
    assert codes(items, dialect="deepseek") == {"input[0].content[1]": "image_omitted"}


def test_sounds_and_files() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    (message,) = messages([{"role": "user", "content": [sound]}])
    assert message["content"] == [sound]
    pdf = {
        "type": "input_file",
        "file_data": "data:application/pdf;base64,AA==",
        "filename": "a.pdf",
    }
    (message,) = messages([{"role": "user", "content": [pdf]}], dialect="openai")
    assert message["content"] == [
        {"type": "file", "file": {"file_data": pdf["file_data"], "filename": "a.pdf"}}
    ]


@pytest.mark.parametrize(
    "file",
    [
        {"file_data": "data:text/plain;base64,SGk=", "filename": "a.bin"},
        {"file_data": "data:application/json;base64,SGk="},
        {"file_data": "SGk=", "filename": "a.PY"},
    ],
)
def test_text_files_are_read_where_files_are_not_taken(file: dict[str, Any]) -> None:
    (message,) = messages([{"role": "user", "content": [{"type": "input_file", **file}]}])
    assert "\nHi\n" in message["content"]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"type": "input_image"}, "image_url"),
        ({"type": "input_image", "image_url": None}, "image_url"),
        ({"type": "input_image", "image_url": {"url": "x"}}, "image_url"),
        ({"type": "input_image", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_url": "https://x"}, "file_url"),
        ({"type": "input_file", "file_data": "AA==", "filename": "a.pdf"}, "file_data"),
        ({"type": "input_file", "file_data": "data:text/plain;base64,%%%"}, "file_data"),
        ({"type": "input_file", "file_data": "data:text/plain;base64,/w=="}, "file_data"),
        ({"type": "input_video"}, "type"),
        ({"type": "input_text"}, "text"),
    ],
)
def test_content_that_cannot_be_sent_is_refused_with_its_path(part: Any, path: str) -> None:
    refused = refusal([user("u"), {"role": "user", "content": ["x", part]}])
    assert refused.param == f"input[1].content[1].{path}"


def test_only_text_where_only_text_is_possible() -> None:
    assert refusal([{"role": "system", "content": [IMAGE]}]).param == "input[0].content[0]"
    assert refusal([{"role": "assistant", "content": [IMAGE]}]).param == "input[0].content[0]"
    assert messages([{"role": "assistant", "content": ["a"]}, user("u")])[0]["content"] == "a"


# --- descriptions of images -----------------------------------------------------------------------


def digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def described(
    items: list[Any], descriptions: dict[str, str] | None = None, **options: Any
) -> translator.Translation:
    """The translation for a model that sees nothing; `descriptions` are by URL."""
    known = {digest(url): text for url, text in (descriptions or {}).items()}
    earlier = options.pop("earlier", None)
    if earlier is not None:
        earlier = [Raw(json.dumps(item).encode()) for item in earlier]
        options["previous_response_id"] = "resp_1"
    return translator.Translation(
        {"model": "m", "input": items, **options},
        response_id="resp_2",
        created_at=0,
        new_id=lambda prefix: prefix,
        target=translator.Target(vision=False, descriptions=known),
        earlier=earlier,
    )


def picture(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, **more}


def words(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def test_a_description_stands_where_the_image_stood() -> None:
    items = [{"role": "user", "content": [words("look"), picture("https://a.test/b"), words("?")]}]
    t = described(items, {"https://a.test/b": "a red square"})
    marked = "[image, described by another model:]\na red square\n[end of the description]"
    assert json.loads(t.chat_body)["messages"] == [user(f"look\n{marked}\n?")]
    assert [(one.path, one.code) for one in t.notices] == [
        ("input[0].content[1]", "image_described")
    ]
    assert t.undescribed == ()


def test_images_that_lack_a_description_are_listed() -> None:
    """With their places, and what the user says beside them or said last."""
    earlier = [{"role": "user", "content": [picture("data:,1"), words("first")]}]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    shown = {"type": "function_call_output", "call_id": "c", "output": [picture("data:,2")]}
    items = [
        {"role": "user", "content": "second"},
        call,
        shown,
        {"role": "user", "content": [picture("data:,3", detail="low")]},
        {"role": "user", "content": ["x" * 3000, picture("data:,4")]},
    ]
    t = described(items, earlier=earlier)
    assert [(one.url, one.path, one.words, one.detail) for one in t.undescribed] == [
        ("data:,1", "previous_response_id[0].content[0]", "first", None),
        ("data:,2", "input[2].output[0]", "second", None),
        ("data:,3", "input[3].content[0]", "second", "low"),
        ("data:,4", "input[4].content[1]", "x" * 2000, None),
    ]
    assert [one.digest for one in t.undescribed] == [digest(f"data:,{n}") for n in (1, 2, 3, 4)]
    assert {one.code for one in t.notices} == {"image_omitted"}
    assert t.chat_body.count(b"[image omitted") == 4
    t.forget_request()
    assert t.undescribed == ()


@pytest.mark.parametrize("url", [r'"https:\/\/a.test\/b"', r'"https://a.test/\u0062"'])
def test_escapes_make_no_other_image(url: str) -> None:
    image = b'{"type":"input_image","image_url":%b}' % url.encode()
    body = b'{"model":"m","input":[{"role":"user","content":[%b]}]}' % image
    [found] = exchange_of(body).undescribed
    assert (found.url, found.digest) == ("https://a.test/b", digest("https://a.test/b"))


def exchange_of(body: bytes) -> translator.Translation:
    return translator.Translation(
        body,
        response_id="resp_2",
        created_at=0,
        new_id=lambda prefix: prefix,
        target=translator.Target(vision=False, descriptions={}),
    )


def test_a_file_id_cannot_be_described() -> None:
    t = described([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}])
    assert t.undescribed == ()
    assert [one.code for one in t.notices] == ["image_omitted"]


def test_a_model_that_sees_gets_the_image() -> None:
    t = translator.Translation(
        {"model": "m", "input": [{"role": "user", "content": [picture("data:,1")]}]},
        response_id="resp_2",
        created_at=0,
        new_id=lambda prefix: prefix,
        target=translator.Target(descriptions={digest("data:,1"): "a red square"}),
    )
    assert b"red square" not in t.chat_body
    assert (t.notices, t.undescribed) == ((), ())
