"""Texts, images, sounds and files: how each goes up, and what stands for what cannot."""

from __future__ import annotations

from typing import Any

import pytest

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
